// A callback server of the shape that Alibaba Cloud publishes for Node: `http` and `crypto`, every callback verified, nothing
// stored. The published one fetches the key anew for each callback; this one reads it from a file, which costs far less.
//
//     node server.mjs KEYFILE
import { createVerify } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const keyFile = process.argv[2];

function whole(request) {
  return new Promise((resolve, reject) => {
    let text = "";
    request.on("data", (chunk) => (text += chunk));
    request.on("end", () => resolve(text));
    request.on("error", reject);
  });
}

async function isFromOss(request) {
  const keyUrl = Buffer.from(request.headers["x-oss-pub-key-url"], "base64").toString();
  if (!/^https?:\/\//.test(keyUrl)) return false;
  const key = await readFile(keyFile, "utf8");
  const signature = Buffer.from(request.headers.authorization, "base64");
  const [path, query] = request.url.split("?", 2);
  const body = await whole(request);
  const signed = decodeURIComponent(path) + (query === undefined ? "" : `?${query}`) + "\n" + body;
  return createVerify("RSA-MD5").update(signed).verify(key, signature);
}

const server = createServer(async (request, response) => {
  let status = 403;
  let answer = { Status: "verify not ok" };
  try {
    if (await isFromOss(request)) {
      status = 200;
      answer = { Status: "Ok" };
    }
  } catch {
    status = 400;
  }
  const text = JSON.stringify(answer);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
});

server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ event: "ready", listen: `http://127.0.0.1:${server.address().port}` }));
});
