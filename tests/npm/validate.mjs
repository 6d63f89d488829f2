// Checks SCL files with npm's validators and prints JSON; used by tests/system/test_scl_npm.py.
//
//   node validate.mjs FILE...            issues of each file
//   node validate.mjs --merge FILE FILE  ids of the types that come along when the second IED joins the first file
//   node validate.mjs --inserted FILE FILE  the first file with the IED of the second in it, renamed to SECOND
//   node validate.mjs --equal FILE FILE  what differs between the projects: IEDs, addresses, types behind each node
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

// The first file after scl-lib's own edits have been applied.
async function inserted(first, second) {
  const project = await parse(first);
  const ied = (await parse(second)).querySelector("IED");
  for (const edit of lib.updateIED({ element: ied, attributes: { name: "SECOND" } }))
    if (edit.element) for (const [name, value] of Object.entries(edit.attributes)) edit.element.setAttribute(name, value);
  for (const { parent, node, reference } of lib.insertIed(project.documentElement, ied)) parent.insertBefore(node, reference);
  return new XMLSerializer().serializeToString(project);
}

// The types behind a node, by path, without their ids: what the merge must not change.
function shape(doc, kind, id, path, found) {
  const type = doc.querySelector(`${kind}[id="${id}"]`);
  found[path] = [kind, type.getAttribute("lnClass") ?? type.getAttribute("cdc")];
  for (const member of Array.from(type.children)) {
    const attributes = Array.from(member.attributes).filter((each) => each.name !== "type");
    const name = `${path}.${member.getAttribute("name") ?? member.getAttribute("ord")}`;
    found[name] = [member.tagName, ...attributes.map((each) => `${each.name}=${each.value}`).sort(), member.children.length ? "" : member.textContent];
    const below = member.getAttribute("type");
    if (below && ["DO", "SDO"].includes(member.tagName)) shape(doc, "DOType", below, `${name}:`, found);
    if (below && member.getAttribute("bType") === "Struct") shape(doc, "DAType", below, `${name}:`, found);
    if (below && member.getAttribute("bType") === "Enum") shape(doc, "EnumType", below, `${name}:`, found);
  }
}

function summary(doc) {
  const found = {};
  for (const node of Array.from(doc.querySelectorAll(":root > IED LN0, :root > IED LN")))
    shape(doc, "LNodeType", node.getAttribute("lnType"), lib.identity(node), found);
  for (const connected of Array.from(doc.querySelectorAll("ConnectedAP")))
    found[lib.identity(connected)] = Array.from(connected.querySelectorAll("P")).map((p) => `${p.getAttribute("type")}=${p.textContent}`);
  for (const value of Array.from(doc.querySelectorAll("IED DAI"))) found[`value ${lib.identity(value)}`] = value.textContent.trim();
  return found;
}

async function equal(first, second) {
  const [ours, theirs] = [summary(await parse(first)), summary(await parse(second))];
  const names = Object.keys({ ...ours, ...theirs });
  const differ = names.filter((name) => JSON.stringify(ours[name]) !== JSON.stringify(theirs[name]));
  return { compared: names.length, differ };
}

const [, , mode, ...rest] = process.argv;
if (mode === "--merge") console.log(JSON.stringify(await merge(...rest)));
else if (mode === "--inserted") console.log(JSON.stringify(await inserted(...rest)));
else if (mode === "--equal") console.log(JSON.stringify(await equal(...rest)));
else {
  const report = {};
  for (const file of [mode, ...rest]) {
    const doc = await parse(file);
    report[file] = { template: await templateIssues(doc), library: libraryIssues(doc) };
  }
  console.log(JSON.stringify(report));
}
