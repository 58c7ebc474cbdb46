#!/bin/sh
# Packs the project, installs the tarball in an empty folder and uses it from there as a stranger would.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cd "$root"
rm -rf dist
npm run --silent build
npm pack --silent --pack-destination "$folder" >"$folder/name"
tarball="$folder/$(tail -n 1 "$folder/name")"
echo "packed $(basename "$tarball"): $(wc -c <"$tarball") bytes, $(tar -tzf "$tarball" | wc -l) files"

mkdir "$folder/empty"
cd "$folder/empty"
npm init -y >/dev/null
npm pkg set type=module >/dev/null
npm install --silent --ignore-scripts --no-audit --no-fund --prefer-offline "$tarball"

version=$(npx tamis --version)
wanted=$(node -p "JSON.parse(require('fs').readFileSync('$root/package.json')).version")
[ "$version" = "$wanted" ] || { echo "tamis --version printed '$version', not '$wanted'" >&2; exit 1; }

cat >model.ts <<'MODEL'
import { defineModel, gelu, input, nn } from "tamis";

export const tiny = defineModel({
  name: "tiny",
  options: { hidden: 32 },
  build: ({ hidden }) => {
    const x = input("features", "f32", ["batch", 8]);
    return { logits: nn.linear("head", gelu(nn.linear("fc", x, { out: hidden })), { out: 3 }) };
  },
});
MODEL
npx tamis inspect model.ts >inspected
grep -q 'graph @tiny(%features: f32\[batch,8\])' inspected || { cat inspected >&2; exit 1; }
npx tamis inspect model.ts --set hidden=16 --json >inspected.json
node -e '
  const { graph, inputs, outputs } = JSON.parse(require("fs").readFileSync("inspected.json", "utf8"));
  if (graph === undefined || inputs[0].name !== "features" || outputs[0].name !== "logits") process.exit(1);
'
npx tamis compile model.ts --target onnx -o compiled
[ -s compiled/model.onnx ] || { ls -l compiled >&2; exit 1; }
npx tamis compile model.ts --target webgpu -o page
[ -s page/plan.json ] || { ls -l page >&2; exit 1; }

cat >own.ts <<'OWN'
import { any, backend, composite, defineModel, input, pat, rewritePass, rule } from "tamis";

export const twice = composite({
  name: "twice",
  summary: "x + x",
  operands: ["x"],
  infer: ([x]) => [x],
  decompose: (b, [x]) => b.add(x, x),
});
export const own = defineModel({ name: "own", build: () => ({ y: twice(input("x", "f32", [3])) }) });
export const negTwice = rewritePass({
  name: "negTwice",
  summary: "",
  contract: "approximate",
  example: { before: "", after: "" },
  rules: [rule({ match: pat.add([any("x"), any("y")]), build: (b, { x }) => b.neg(x) })],
});
export const listing = backend({
  name: "listing",
  summary: "names of ops",
  native: "every",
  emit: ({ graph }) => ({ "ops.txt": graph.nodes.map(({ op }) => op).join(" ") }),
});
OWN
npx tamis run own.ts --input x=random:1 --target reference >ran
npx tamis inspect own.ts --pass decompose --pass ./own.ts:negTwice | grep -q 'neg(%x)'
npx tamis compile own.ts --target ./own.ts:listing -o listed >/dev/null
[ "$(cat listed/ops.txt)" = "input twice" ] || { cat listed/ops.txt >&2; exit 1; }

cat >program.js <<'PROGRAM'
import { compile, parseGraph, passes } from "tamis";
import { vit } from "tamis/models";
import "tamis/runtime";
import "tamis/browser";

const small = vit({ imageSize: 32, patch: 8, dim: 32, depth: 2, heads: 2, classes: 4 });
const merge = passes.get("mergeTokens").make({ r: 2 });
const { artifact } = compile(small, { target: "onnx", passes: [merge] });
parseGraph("graph @id(%x: f32[4]) {\n  return y: %x\n}");
console.log(artifact.outputs[0].name);
PROGRAM
[ "$(node program.js)" = "logits" ] || { echo "the installed package does not compile a model" >&2; exit 1; }
echo "pack-check: the installed package works"
