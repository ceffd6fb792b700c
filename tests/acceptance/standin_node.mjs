// ali-oss in Node as a client of standin_node.py: what the browser's build cannot do is added here.

import { buffer } from "node:stream/consumers";
import { Readable } from "node:stream";

import OSS from "ali-oss";

import { answer, settings } from "./agent.mjs";
import { AliOss } from "./ali_oss.mjs";

const CHUNK = 1000;

class Node extends AliOss {
  /** Of unknown length, so it goes out in chunks. */
  async put_stream({ key, data, ...given }) {
    const whole = this.bytes(data);
    const starts = Array.from({ length: Math.ceil(whole.length / CHUNK) }, (_, at) => at * CHUNK);
    const stream = Readable.from(starts.map((start) => whole.subarray(start, start + CHUNK)));
    return this.shown(await this.oss.putStream(key, stream, this.options(given)));
  }

  async put_file({ key, path, ...given }) {
    return this.shown(await this.oss.put(key, path, this.options(given)));
  }

  async upload_file({ key, path, part_size, ...given }) {
    const options = { ...this.options(given), partSize: part_size, parallel: 2 };
    return this.shown(await this.oss.multipartUpload(key, path, options));
  }

  async get_range({ key, first, last }) {
    const { stream } = await this.oss.getStream(key, { headers: { Range: `bytes=${first}-${last}` } });
    return { data: (await buffer(stream)).toString("base64") };
  }
}

await answer(new Node(OSS, Buffer, settings));
process.exit();
