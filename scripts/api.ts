// `npm run docs:api` writes docs/api, a page per entry of the package: every export with its signature and doc comment.
// The pages are not committed; `npm run build` writes them for the packed package. typedoc wants an older TypeScript
// than the one that checks this project; ts-morph brings its own.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type JSDocableNode, Node, Project, type SourceFile } from "ts-morph";

const root = fileURLToPath(new URL("../", import.meta.url));

export const entries = {
  tamis: "src/index.ts",
  "tamis/runtime": "src/runtime/node/index.ts",
  "tamis/models": "src/models/index.ts",
  "tamis/browser": "src/runtime/browser/index.ts",
} as const;
export type Entry = keyof typeof entries;

/** One export of an entry; those of a namespace are `nn.linear`. */
export interface Exported {
  readonly name: string;
  /** `function`, `constant`, `class` or `type`. */
  readonly kind: string;
  /** TypeScript, as callers see it. */
  readonly signature: string;
  /** The doc comment; empty where there is none. */
  readonly doc: string;
  /** `src/compile.ts:76` */
  readonly place: string;
}

/** Every export of an entry, by name. */
export function exportsOf(entry: Entry, project: Project = openProject()): readonly Exported[] {
  return exportsOfFile(project.getSourceFileOrThrow(root + entries[entry]), "").toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  );
}

export function openProject(): Project {
  const project = new Project({ tsConfigFilePath: `${root}tsconfig.json`, skipAddingFilesFromTsConfig: true });
  for (const file of Object.values(entries)) project.addSourceFileAtPath(root + file);
  project.resolveSourceFileDependencies();
  return project;
}

function exportsOfFile(file: SourceFile, prefix: string): readonly Exported[] {
  return [...file.getExportedDeclarations()].flatMap(([name, declarations]) => {
    const [first] = declarations;
    if (first === undefined) return [];
    if (Node.isSourceFile(first)) return exportsOfFile(first, `${prefix}${name}.`);
    const place = `${first.getSourceFile().getFilePath().replace(root, "")}:${first.getStartLineNumber()}`;
    const doc = declarations.map(docOf).find((text) => text !== "") ?? "";
    return [{ name: prefix + name, kind: kindOf(first), signature: signatureOf(declarations), doc, place }];
  });
}

function docOf(declaration: Node): string {
  const holder = Node.isVariableDeclaration(declaration) ? declaration.getVariableStatement() : declaration;
  if (holder === undefined || !("getJsDocs" in holder)) return "";
  return (holder as unknown as JSDocableNode)
    .getJsDocs()
    .map((doc) => doc.getInnerText())
    .join("\n\n");
}

const kindOf = (declaration: Node): string =>
  Node.isFunctionDeclaration(declaration)
    ? "function"
    : Node.isClassDeclaration(declaration)
      ? "class"
      : Node.isVariableDeclaration(declaration)
        ? "constant"
        : "type";

const longestType = 400; // characters; a table of all ops is told by its doc comment alone

function signatureOf(declarations: readonly Node[]): string {
  const [first] = declarations;
  if (Node.isFunctionDeclaration(first)) {
    const overloads = first.getOverloads();
    return (overloads.length > 0 ? overloads : [first]).map(withoutBody).join("\n");
  }
  if (Node.isVariableDeclaration(first)) {
    const type = first
      .getType()
      .getText(first)
      .replace(/import\("[^"]*"\)\./g, "");
    return `const ${first.getName()}${type.length <= longestType ? `: ${type}` : ""}`;
  }
  if (Node.isClassDeclaration(first)) {
    const members = first.getMembers().filter((member) => !/^(?:private|#)/.test(member.getText()));
    const lines = members.map(
      (member) => `  ${docOf(member) === "" ? "" : `/** ${docOf(member)} */\n  `}${withoutBody(member)}`,
    );
    return `class ${first.getName()} {\n${lines.join("\n")}\n}`;
  }
  return plain(first?.getText() ?? "");
}

/** Up to the body of a function or method; fields lose what they are set to. */
function withoutBody(node: Node): string {
  const body = Node.isBodyable(node) || Node.isBodied(node) ? node.getBody() : undefined;
  const text = body === undefined ? node.getText() : node.getText().slice(0, body.getStart() - node.getStart());
  return plain(text.replace(/^\/\*\*[\s\S]*?\*\/\s*/, ""));
}

const plain = (text: string): string =>
  text
    .replace(/^export (?:declare )?/, "")
    .trim()
    .replace(/;$/, "");

const titles = [
  ["function", "Functions"],
  ["class", "Classes"],
  ["constant", "Constants"],
  ["type", "Types"],
] as const;

/** The page of an entry. */
export function apiPage(entry: Entry, exported: readonly Exported[]): string {
  const sections = titles.flatMap(([kind, title]) => {
    const of = exported.filter((one) => one.kind === kind);
    const parts = of.map(({ name, doc, signature, place }) =>
      [`### ${name}`, doc, `\`\`\`ts\n${signature}\n\`\`\``, `\`${place}\``].join("\n\n"),
    );
    return of.length === 0 ? [] : [`## ${title}`, ...parts];
  });
  return `${[`# ${entry}`, "<!-- Written by `npm run docs:api`. -->", ...sections].join("\n\n")}\n`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const project = openProject();
  rmSync(`${root}docs/api`, { recursive: true, force: true });
  mkdirSync(`${root}docs/api`);
  for (const entry of Object.keys(entries) as Entry[]) {
    const exported = exportsOf(entry, project);
    writeFileSync(`${root}docs/api/${entry.replace("/", "-")}.md`, apiPage(entry, exported));
    process.stdout.write(`docs/api/${entry.replace("/", "-")}.md: ${exported.length} exports\n`);
  }
}
