// The other side of agent.py: answers each line of standard input with one of JSON, in turn.

import { createInterface } from "node:readline";

import { describe } from "./ali_oss.mjs";

/** What the program was started with. */
export const settings = JSON.parse(process.argv[2]);

/** Answers by `operations` until the input ends. */
export async function answer(operations) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: operation, ...given } = JSON.parse(line);
    let shown;
    try {
      shown = await operations[operation](given);
    } catch (fault) {
      shown = describe(fault);
    }
    process.stdout.write(`${JSON.stringify(shown)}\n`);
  }
}
