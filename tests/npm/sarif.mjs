// Checks SARIF files against the SARIF 2.1.0 schema that @microsoft/jest-sarif carries;
// used by tests/system/test_scl_npm.py.
//
//   node sarif.mjs FILE...   {FILE: [errors]}
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const Ajv = require("ajv");
const schema = require("@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json");

const ajv = new Ajv({ schemaId: "id", meta: false, allErrors: true, unknownFormats: "ignore" });
ajv.addMetaSchema(require("ajv/lib/refs/json-schema-draft-04.json"));
const validate = ajv.compile(schema);

const report = {};
for (const file of process.argv.slice(2)) {
  validate(JSON.parse(await readFile(file, "utf8")));
  report[file] = (validate.errors ?? []).map((error) => `${error.dataPath} ${error.message}`);
}
console.log(JSON.stringify(report));
