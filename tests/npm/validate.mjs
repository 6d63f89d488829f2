// Checks SCL files with npm's validators and prints JSON; used by tests/system/test_scl_npm.py.
//
//   node validate.mjs FILE...            issues of each file
//   node validate.mjs --merge FILE FILE  ids of the types that come along when the second IED joins the first file
import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
globalThis.DOMParser = window.DOMParser;
globalThis.Node = window.Node;
globalThis.Element = window.Element;
globalThis.XMLSerializer = window.XMLSerializer;
const webFetch = globalThis.fetch;
globalThis.fetch = async (url, ...rest) =>
  String(url).startsWith("file:")
    ? new Response(await readFile(fileURLToPath(url)))
    : webFetch(url, ...rest);

register("./bundler.mjs", import.meta.url);
const { validate } = await import("@openenergytools/scl-template-validator");
const lib = await import("@openenergytools/scl-lib");

const parse = async (file) => new DOMParser().parseFromString(await readFile(file, "utf8"), "application/xml");

// Issues of the template validator.
async function templateIssues(doc) {
  const issues = [];
  let groups = 0;
  for await (const group of validate(doc)) {
    groups += 1;
    for (const issue of await group) issues.push(`${issue.title}: ${issue.message}`);
  }
  return { groups, issues };
}

// A data object that comes in any number (CntVal) stands in scl-lib's data as the first one.
function known(description, name) {
  const base = name.replace(/\d+$/, "");
  return description[name] || description[base] || (name !== base && description[`${base}1`]);
}

// What a type has and its class does not, or the other way round, by scl-lib's own namespace data.
function compare(selection, description, path, issues) {
  for (const name of Object.keys(selection))
    if (!known(description, name)) issues.push(`${path}.${name} is not in the namespace`);
  for (const [name, known] of Object.entries(description)) {
    if (selection[name]) {
      if (known.children) compare(selection[name], known.children, `${path}.${name}`, issues);
    } else if (known.mandatory) issues.push(`${path}.${name} is mandatory and missing`);
  }
}

function libraryIssues(doc) {
  const issues = [];
  const nodeTypes = Array.from(doc.querySelectorAll("LNodeType"));
  for (const nodeType of nodeTypes) {
    const lnClass = nodeType.getAttribute("lnClass");
    const description = lib.nsdToJson(lnClass);
    if (!description) issues.push(`no class ${lnClass}`);
    else compare(lib.lNodeTypeToSelection(nodeType), description, nodeType.getAttribute("id"), issues);
  }
  const members = Array.from(doc.querySelectorAll("FCDA"));
  for (const member of members)
    if (!lib.fcdaBaseTypes(member)) issues.push(`FCDA ${lib.identity(member)} names nothing`);
  for (const node of Array.from(doc.querySelectorAll("IED, LDevice, LN0, LN, DataSet, ReportControl"))) {
    if (lib.find(doc, node.tagName, lib.identity(node)) !== node) issues.push(`${lib.identity(node)} is not unique`);
  }
  return { nodeTypes: nodeTypes.length, members: members.length, issues };
}

async function merge(first, second) {
  const project = await parse(first);
  const ied = (await parse(second)).querySelector("IED");
  ied.setAttribute("name", "SECOND");
  const edits = lib.insertIed(project.documentElement, ied);
  const inserted = edits.map((edit) => edit.node).filter((node) => node.getAttribute?.("id"));
  return { edits: edits.length, ids: inserted.map((node) => node.getAttribute("id")) };
}

const [, , mode, ...rest] = process.argv;
if (mode === "--merge") console.log(JSON.stringify(await merge(...rest)));
else {
  const report = {};
  for (const file of [mode, ...rest]) {
    const doc = await parse(file);
    report[file] = { template: await templateIssues(doc), library: libraryIssues(doc) };
  }
  console.log(JSON.stringify(report));
}
