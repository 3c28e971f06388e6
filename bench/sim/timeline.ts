import type { EngineObserver } from "../../daemon/engine/observer.ts";
import type { Execution } from "../../daemon/engine/ports.ts";
import type { SimulationResult } from "./result.ts";

export class Timeline implements EngineObserver {
  started(_execution: Execution, _nowUs: number): void {}

  html(_result: SimulationResult): string {
    return "";
  }
}
