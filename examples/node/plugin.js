// An instance plugin in JavaScript, without libraries: `node plugin.js SOCKET DIRECTORY`.
//
// An instance is a file in DIRECTORY. This is the minimum that the protocol requires of an instance plugin:
// JSON-RPC 2.0 over HTTP on a unix socket, a handshake, and five methods.

"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

const [socket, directory] = process.argv.slice(2);
const place = (id) => path.join(directory, path.basename(id) + ".json");

class Problem extends Error {} // its message is returned to the caller

function read(id) {
  try {
    return JSON.parse(fs.readFileSync(place(id)));
  } catch (error) {
    if (error.code === "ENOENT") throw new Problem(`there is no instance ${id}`);
    throw error;
  }
}

function write(instance) {
  fs.writeFileSync(place(instance.ID) + ".new", JSON.stringify(instance)); // readers see all of it or nothing
  fs.renameSync(place(instance.ID) + ".new", place(instance.ID));
}

const all = () => fs.readdirSync(directory).filter((name) => name.endsWith(".json")).map((name) => read(name.slice(0, -5)));

// Field names are case-insensitive in the protocol.
function field(params, name) {
  const found = Object.keys(params ?? {}).find((each) => each.toLowerCase() === name.toLowerCase());
  return found === undefined ? undefined : params[found];
}

function object(value, name) {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new Problem(`${name} must be an object`);
  return value;
}

function tagsOf(value) {
  const tags = object(value, "Tags");
  if (Object.values(tags).some((each) => typeof each !== "string")) throw new Problem("Tags must be strings");
  return tags;
}

function text(value, name) {
  if (value !== undefined && value !== null && typeof value !== "string") throw new Problem(`${name} must be a string`);
  return value ?? null;
}

const methods = {
  "Handshake.Hello": () => {
    const named = [{ Name: ".", ProxyFor: "" }];
    return { Objects: { "Instance/0.6.1": named, "Capable/0.1.0": named } };
  },

  // Optional guarantees: a listing shows every change at once, and tokens make creation idempotent. Without them,
  // InfraKit waits half a minute before it considers an instance that is missing from the listing terminated.
  "Capable.Capabilities": () => ({ ListingLagS: 0, Tokens: true }),

  "Instance.Validate": () => ({ OK: true }),

  "Instance.Provision": (params) => {
    const spec = object(field(params, "Spec"), "Spec");
    const tags = tagsOf(field(spec, "Tags"));
    text(field(spec, "Init"), "Init");
    const token = tags["infrakit.token"]; // identifies one intent to create: a retry creates nothing new
    const existing = token && all().find((each) => each.Tags["infrakit.token"] === token);
    if (existing) return { ID: existing.ID };
    const logicalID = text(field(spec, "LogicalID"), "LogicalID");
    const owner = logicalID && all().find((each) => each.LogicalID === logicalID);
    if (owner) throw new Problem(`${owner.ID} already has the logical ID ${logicalID}`);
    const instance = { ID: `node-${crypto.randomUUID()}`, LogicalID: logicalID, Tags: tags, Spec: spec };
    write(instance);
    return { ID: instance.ID };
  },

  "Instance.Label": (params) => {
    const instance = read(String(field(params, "Instance")));
    write({ ...instance, Tags: { ...instance.Tags, ...tagsOf(field(params, "Labels")) } });
    return { OK: true };
  },

  "Instance.Destroy": (params) => {
    const instance = read(String(field(params, "Instance")));
    fs.unlinkSync(place(instance.ID));
    return { OK: true };
  },

  "Instance.DescribeInstances": (params) => {
    const wanted = Object.entries(tagsOf(field(params, "Tags")));
    const found = all().filter((each) => wanted.every(([name, value]) => each.Tags[name] === value));
    return { Descriptions: found.map(({ ID, LogicalID, Tags, Spec }) => ({ ID, LogicalID, Tags, Properties: Spec })) };
  },
};

function answer(body) {
  let request;
  try {
    request = JSON.parse(body);
  } catch {
    return ""; // without an id there is no request to respond to
  }
  if (typeof request !== "object" || request === null || Array.isArray(request)) return "";
  const reply = { jsonrpc: "2.0", id: request.id };
  try {
    if (request.jsonrpc !== "2.0") throw new Problem("jsonrpc must be 2.0");
    const method = methods[request.method];
    if (!method) throw new Problem(`rpc: can't find method "${request.method}"`);
    const given = Array.isArray(request.params) ? request.params[0] : request.params;
    const params = object(given, "params");
    if (field(params, "Type")) throw new Problem(`no-plugin:${field(params, "Type")}`);
    reply.result = { Type: "", ...method(params) };
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    reply.error = { code: -32000, message: error.message, data: null };
  }
  return request.id === undefined || request.id === null ? "" : JSON.stringify(reply) + "\n";
}

const server = http.createServer((request, response) => {
  const [type] = (request.headers["content-type"] ?? "application/json").split(";");
  if (request.url !== "/") return response.writeHead(404).end("404 page not found\n");
  if (request.method !== "POST") return response.writeHead(405).end("rpc: POST method required");
  if (type.trim().toLowerCase() !== "application/json") return response.writeHead(415).end("rpc: JSON is required");
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    response.writeHead(200, { "Content-Type": "application/json" }).end(answer(Buffer.concat(parts).toString()));
  });
});

fs.mkdirSync(directory, { recursive: true });
process.umask(0o077); // only the owner may use the socket
server.listen(socket, () => console.log(`serving at ${socket}`));
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}
