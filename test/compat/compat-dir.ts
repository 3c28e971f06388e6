import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";

/** Where the Python scripts and the lists of packages are. */
export const COMPAT_DIR: string = path.join(PACKAGE_ROOT, "test", "compat");
