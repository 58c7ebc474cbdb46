// tamis/browser: runs a folder that `tamis compile --target webgpu` wrote, without a compiler.
export { CompileError, type Diagnostic } from "../../ir/diagnostic.ts";
export type { DType, Elements } from "../../ir/type.ts";
export type { PictureInput, Progress } from "../artifact/index.ts";
export type { PlainModel as BrowserModel, PlainTensor, Results } from "../artifact/plainModel.ts";
export type { SessionValue } from "../session.ts";
export { type BrowserDevice, openDevice } from "./device.ts";
export { type LoadOptions, loadModel } from "./model.ts";
