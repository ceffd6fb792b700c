// Uploads with ali-oss to the running loop, and checks all that comes of it.
//
//     node sdk_node.mjs [path of oss-callback-dev]      $PYTHON makes the pictures (default: python3, with Pillow)

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import OSS from "ali-oss";
import jpeg from "jpeg-js";

import { HERE, Loop, Suite } from "./harness.mjs";

const ANSWER_MS = 5_000;
const TOLERANCE = 30;
const [RED, GREEN, BLUE, YELLOW, WHITE] = [
  [200, 40, 40],
  [40, 170, 60],
  [40, 60, 200],
  [220, 200, 40],
  [255, 255, 255],
];

// As pictures.py makes them: the corners are top left, top right, bottom left, bottom right, as a viewer shows them.
const PICTURES = [
  picture("upright.jpg", "image/jpeg", [192, 256], [600, 800], [BLUE, RED, YELLOW, GREEN]),
  picture("transparent.png", "image/png", [256, 192], [640, 480], [WHITE, WHITE, WHITE, WHITE]),
  picture("picture.webp", "image/webp", [256, 192], [800, 600], [GREEN, BLUE, RED, YELLOW]),
  picture("moving.gif", "image/gif", [256, 192], [400, 300], [YELLOW, RED, GREEN, BLUE]),
];

function picture(file, mime, small, large, corners) {
  return { file, mime, small, large, corners };
}

const NAMES = [
  ...["bucket", "object", "etag", "size", "mimeType", "imageInfo.height", "imageInfo.width", "imageInfo.format"],
  ...["crc64", "contentMd5", "vpcId", "clientIp", "reqId", "operation"],
];
const FORM = {
  contentType: "application/x-www-form-urlencoded",
  body: [...NAMES.map((name) => `${name}=\${${name}}`), "uid=${x:uid}"].join("&"),
};
const JSON_BODY = {
  contentType: "application/json",
  body: `{${[...NAMES.map((name) => `"${name}":\${${name}}`), '"uid":${x:uid}'].join(",")}}`,
};
const UID = "user 8/ü";

function client(ready) {
  return new OSS({
    accessKeyId: ready.access_key_id,
    accessKeySecret: ready.access_key_secret,
    bucket: ready.bucket,
    region: `oss-${ready.region}`,
    endpoint: ready.standin,
    authorizationV4: true,
  });
}

function put(oss, key, data, mime, url, template = FORM) {
  // ali-oss puts the `x:` before the names itself.
  return oss.put(key, data, { mime, callback: { url, ...template, customValue: { uid: UID } } });
}

/** Uploads; checks all of the answer but the thumbnails; returns it. */
async function upload(loop, key, data, mime, status, template) {
  const begun = performance.now();
  const result = await put(client(loop.ready), key, data, mime, loop.ready.callback_url, template);
  const ms = performance.now() - begun;
  assert.ok(ms < ANSWER_MS, `expected an answer within ${ANSWER_MS} ms, saw ${ms.toFixed(0)} ms`);
  const { headers } = result.res;
  const wanted = {
    status,
    bucket: loop.ready.bucket,
    object: key,
    etag: headers.etag.replaceAll('"', ""),
    size: data.length,
    mime,
    generation: 1,
    confirmed: true,
    request_id: headers["x-oss-request-id"],
  };
  const seen = Object.fromEntries(Object.keys(wanted).map((name) => [name, result.data[name]]));
  assert.deepEqual(seen, wanted);
  return result.data;
}

function cornersOf({ width, height, data }) {
  const [x, y] = [Math.floor(width / 16), Math.floor(height / 16)];
  const places = [
    [x, y],
    [width - 1 - x, y],
    [x, height - 1 - y],
    [width - 1 - x, height - 1 - y],
  ];
  return places.map(([left, top]) => [...data.subarray((top * width + left) * 4).subarray(0, 3)]);
}

function assertClose(seen, wanted, what) {
  const near = seen.every((channel, at) => Math.abs(channel - wanted[at]) <= TOLERANCE);
  assert.ok(near, `${what}: expected about ${wanted}, saw ${seen}`);
}

async function checkPicture(loop, picture, data) {
  const answer = await upload(loop, `node/${picture.file}`, data, picture.mime, "ready");
  assert.deepEqual(answer.thumbnails.map(({ name }) => name).sort(), ["large", "small"]);
  for (const thumbnail of answer.thumbnails) {
    const stored = await client(loop.ready).useBucket(thumbnail.bucket).get(thumbnail.key);
    const image = jpeg.decode(stored.content);
    assert.deepEqual([thumbnail.mime, thumbnail.size], ["image/jpeg", stored.content.length], thumbnail.name);
    assert.deepEqual([image.width, image.height], picture[thumbnail.name], `the size of ${thumbnail.name} as stored`);
    const described = [thumbnail.width, thumbnail.height];
    assert.deepEqual(described, picture[thumbnail.name], `the answer about ${thumbnail.name}`);
    cornersOf(image).forEach((seen, at) => assertClose(seen, picture.corners[at], `${thumbnail.name}, corner ${at}`));
  }
  return answer;
}

async function checkRecord(loop, answer) {
  const record = await loop.record(answer.object);
  const same = ["bucket", "object", "etag", "size", "mime", "generation", "confirmed"];
  const pick = (value) => Object.fromEntries(same.map((name) => [name, value[name]]));
  assert.deepEqual(pick(record), pick(answer));
  assert.equal(record.state, answer.status, "the state of the record");
  assert.equal(record.custom.uid, UID, "the custom variable of the record");
  for (const thumbnail of answer.thumbnails ?? []) {
    const entry = record.thumbnails.find(({ name }) => name === thumbnail.name);
    assert.deepEqual([entry?.key, entry?.size], [thumbnail.key, thumbnail.size], `${thumbnail.name} in the ledger`);
  }
}

async function checkSurvival(loop, keys) {
  const all = () => Promise.all(keys.map((key) => loop.record(key)));
  const before = await all();
  await loop.kill();
  await loop.start();
  assert.deepEqual(await all(), before);
}

// Callback servers with the faults that OSS must not fall for. ali-oss turns each 203 into an exception.
const FAILURES = {
  "status-500": {
    message: /Error status : 500\./,
    answer: (response) => response.writeHead(500, { "content-length": 2 }).end("{}"),
  },
  "not-json": {
    message: /Response body is not valid json format\./,
    answer: (response) => response.writeHead(200, { "content-length": 4 }).end("fine"),
  },
  "no-length": {
    message: /missing content-length/,
    answer: (response) => {
      response.useChunkedEncodingByDefault = false;
      response.writeHead(200, { connection: "close" }).end('{"status":"fine"}');
    },
  },
  never: { message: /timeout|Cost too long time/, answer: () => {} },
};

async function scriptedServer() {
  const server = createServer((request, response) => {
    request.resume().on("end", () => FAILURES[request.url.slice(1)].answer(response));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function checkFailedCallback(loop, url, message) {
  const key = `node/failed/${url.split("/").pop()}.txt`;
  const data = Buffer.from("kept all the same\n");
  const oss = client(loop.ready);
  await assert.rejects(put(oss, key, data, "text/plain", url), (fault) => {
    assert.deepEqual([fault.status, fault.code], [203, "CallbackFailed"], `the fault ${fault}`);
    assert.match(fault.message, message);
    return true;
  });
  const head = await oss.head(key);
  assert.equal(head.res.headers["content-length"], String(data.length), "the size of the object by HEAD");
}

async function main(scratch) {
  const suite = new Suite("Node SDK");
  await promisify(execFile)(process.env.PYTHON ?? "python3", [join(HERE, "pictures.py"), join(scratch, "pictures")]);
  const loop = new Loop(join(scratch, "data"));
  const server = await scriptedServer();
  try {
    await suite.run("oss-callback-dev gets ready", () => loop.start());
    if (suite.failed) return;
    const answers = [];
    for (const picture of PICTURES) {
      const data = await readFile(join(scratch, "pictures", picture.file));
      await suite.run(`${picture.file} becomes two thumbnails`, async () => {
        answers.push(await checkPicture(loop, picture, data));
      });
    }
    const text = Buffer.from("Nothing to make of this.\n");
    await suite.run("a text is recorded", async () => {
      answers.push(await upload(loop, "node/plain.txt", text, "text/plain", "recorded"));
    });
    await suite.run("a callback in JSON about a difficult key", async () => {
      answers.push(await upload(loop, "node/read me & höre.txt", text, "text/plain", "recorded", JSON_BODY));
    });
    for (const answer of answers) {
      await suite.run(`the record of ${answer.object} says the same`, () => checkRecord(loop, answer));
    }
    await suite.run("records outlive kill -9", () => checkSurvival(loop, answers.map(({ object }) => object)));
    for (const [fault, { message }] of Object.entries(FAILURES)) {
      const url = `http://127.0.0.1:${server.address().port}/${fault}`;
      await suite.run(`a callback that answers ${fault}`, () => checkFailedCallback(loop, url, message));
    }
  } finally {
    await loop.kill();
    server.closeAllConnections();
    server.close();
    suite.finish();
  }
}

const scratch = await mkdtemp(join(tmpdir(), "oss-callback-node-"));
try {
  await main(scratch);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
