// Chromium as the client of standin_browser.py: a page of another origin that has ali-oss's browser build, and forms.

import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { answer, settings } from "./agent.mjs";
import { HERE } from "./harness.mjs";

const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
  ...["--disable-background-networking", "--disable-component-update"],
];
const PAGE = `<!doctype html><meta charset="utf-8"><title>uploads</title>
<script src="/aliyun-oss-sdk.min.js"></script><script type="module" src="/page.mjs"></script>`;
const FILES = {
  "/aliyun-oss-sdk.min.js": join(HERE, "node_modules/ali-oss/dist/aliyun-oss-sdk.min.js"),
  "/page.mjs": join(HERE, "page.mjs"),
  "/ali_oss.mjs": join(HERE, "ali_oss.mjs"),
};

async function servePage() {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://page").pathname;
    if (FILES[path]) {
      response.setHeader("content-type", "text/javascript; charset=utf-8");
      response.end(await readFile(FILES[path]));
    } else {
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end(path === "/" ? PAGE : `<!doctype html><title>done</title>`);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

class Browser {
  constructor(page, origin) {
    this.page = page;
    this.origin = origin;
  }

  async open() {
    await this.page.goto(`${this.origin}/`);
    await this.page.waitForFunction("window.client !== undefined");
    await this.page.evaluate((given) => window.start(given), settings);
  }

  /** An operation in the page. A file travels as its content. */
  async run(operation, { path, ...given }) {
    const file = path && { data: (await readFile(path)).toString("base64") };
    return this.page.evaluate(([name, asked]) => window.run(name, asked), [operation, { ...given, ...file }]);
  }

  /** A form without any script: the browser leaves the page for where it is redirected to, or for the answer. */
  async submit({ url, fields, data, redirect }) {
    const whole = redirect ? { ...fields, success_action_redirect: `${this.origin}/done` } : fields;
    try {
      const [response] = await Promise.all([
        this.page.waitForNavigation(),
        this.page.evaluate((form) => window.submit(form), { url, fields: whole, data }),
      ]);
      const { origin, pathname, searchParams } = new URL(this.page.url());
      return {
        came_back: origin === this.origin && pathname === "/done",
        status: response.status(),
        query: Object.fromEntries(searchParams),
        answer: await response.text(),
      };
    } finally {
      await this.open();
    }
  }
}

const profile = await mkdtemp(join(tmpdir(), "oss-callback-browser-"));
const server = await servePage();
let context;
try {
  context = await chromium.launchPersistentContext(profile, { executablePath: "/usr/bin/chromium", args: FLAGS });
  const browser = new Browser(context.pages()[0], `http://127.0.0.1:${server.address().port}`);
  await browser.open();
  await answer(
    new Proxy(browser, {
      get: (_, operation) => (given) =>
        operation === "submit" ? browser.submit(given) : browser.run(operation, given),
    }),
  );
} finally {
  await context?.close();
  server.close();
  await rm(profile, { recursive: true, force: true });
}
