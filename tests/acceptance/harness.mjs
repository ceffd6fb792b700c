// What the Node scripts share: a counted suite, and the running loop, always stopped.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const HERE = fileURLToPath(new URL(".", import.meta.url));
const REPOSITORY = resolve(HERE, "../..");
const TARGET = resolve(process.env.CARGO_TARGET_DIR ?? `${REPOSITORY}/target`);
const READY_MS = 30_000;

/** Runs named checks, says what became of each, and ends in one counted line. */
export class Suite {
  passed = 0;
  failed = 0;

  constructor(title) {
    console.log(title);
  }

  async run(name, check) {
    const begun = performance.now();
    try {
      await check();
    } catch (fault) {
      this.failed += 1;
      const text = fault instanceof assert.AssertionError ? fault.message : fault.stack;
      console.log(`  FAIL  ${name}\n${text.replace(/^/gm, "        ")}`);
      return;
    }
    this.passed += 1;
    console.log(`  ok    ${name} (${((performance.now() - begun) / 1000).toFixed(2)} s)`);
  }

  /** Prints the count; sets the exit code. */
  finish() {
    console.log(`${this.passed} passed, ${this.failed} failed`);
    process.exitCode = this.failed || !this.passed ? 1 : 0;
  }
}

/** Rejects, naming what it waited for, if `promise` does not settle in time. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** `oss-callback-dev`, as the first argument or as .ci/run builds it. */
function devBinary() {
  const path = resolve(process.argv[2] ?? `${TARGET}/quick/oss-callback-dev`);
  if (!existsSync(path)) {
    throw new Error(`no ${path}: cargo build --profile quick -p oss-callback-dev, or give its path as the argument`);
  }
  return path;
}

/** The whole loop, `oss-callback-dev`, over one data directory; it can be killed and started again. */
export class Loop {
  #child;

  constructor(data) {
    this.data = data;
    // However this script ends, its loop ends with it.
    process.on("exit", () => this.#signal());
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
  }

  #signal() {
    if (this.#child?.pid && this.#child.exitCode === null && this.#child.signalCode === null) {
      process.kill(-this.#child.pid, "SIGKILL");
      return true;
    }
    return false;
  }

  async start() {
    const flags = ["--standin", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--data", this.data];
    // A process group of its own, so that its children end with it.
    this.#child = spawn(devBinary(), flags, { cwd: REPOSITORY, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    const errors = [];
    this.#child.stderr.on("data", (chunk) => errors.push(chunk));
    const ended = once(this.#child, "exit").then(([code, signal]) => {
      throw new Error(`oss-callback-dev ended with ${code ?? signal} before it was ready\n${Buffer.concat(errors)}`);
    });
    const line = once(createInterface({ input: this.#child.stdout }), "line").then(([text]) => text);
    const first = await within(READY_MS, "the ready line of oss-callback-dev", Promise.race([line, ended]));
    ended.catch(() => {});
    this.ready = JSON.parse(first);
    assert.equal(this.ready.event, "ready", `the event of the ready line ${first}`);
  }

  /** kill -9, without any chance to tidy up. */
  async kill() {
    const exit = this.#child && once(this.#child, "exit");
    if (this.#signal()) await exit;
  }

  /** The record of an object of the ready line's bucket. */
  async record(key) {
    const path = `/records/${this.ready.bucket}/${key.split("/").map(encodeURIComponent).join("/")}`;
    const headers = { authorization: `Bearer ${this.ready.api_token}` };
    const answer = await fetch(this.ready.listen + path, { headers, signal: AbortSignal.timeout(15_000) });
    const text = await answer.text();
    assert.equal(answer.status, 200, `GET ${path} answered ${answer.status}: ${text}`);
    return JSON.parse(text);
  }
}
