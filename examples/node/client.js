// A client in JavaScript without libraries: `node client.js SOCKET [TYPE]` creates, describes and destroys an instance.

"use strict";
const http = require("node:http");

const [socketPath, type = ""] = process.argv.slice(2);
let id = 0;

function call(method, params) {
  const body = JSON.stringify({ jsonrpc: "2.0", method, params: { Type: type, ...params }, id: ++id });
  const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, method: "POST", path: "/", headers, timeout: 15000 }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => {
        const reply = JSON.parse(Buffer.concat(parts).toString());
        if (reply.error) reject(new Error(`${method}: ${reply.error.message}`));
        else resolve(reply.result);
      });
    });
    request.on("timeout", () => request.destroy(new Error("timeout"))); // the call may still have been executed
    request.on("error", reject);
    request.end(body);
  });
}

async function main() {
  const { Objects } = await call("Handshake.Hello", {});
  if (!Objects["Instance/0.6.1"]) throw new Error(`no Instance/0.6.1 among ${Object.keys(Objects)}`);
  const tags = { "made-by": "client.js" };
  await call("Instance.Validate", { Properties: {} });
  const spec = { Properties: {}, Tags: tags, Init: "#!/bin/sh\nexec sleep 600\n", LogicalID: null, Attachments: null };
  const { ID } = await call("Instance.Provision", { Spec: spec });
  await call("Instance.Label", { Instance: ID, Labels: { seen: "yes" } });
  const { Descriptions } = await call("Instance.DescribeInstances", { Tags: { ...tags, seen: "yes" }, Properties: false });
  console.log(JSON.stringify(Descriptions.map((each) => ({ ID: each.ID, Tags: each.Tags }))));
  await call("Instance.Destroy", { Instance: ID, Context: { Reason: "terminate" } });
  const left = await call("Instance.DescribeInstances", { Tags: tags, Properties: false });
  console.log(`${(left.Descriptions ?? []).length} left`);
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
