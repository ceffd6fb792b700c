// The script of the page that standin_browser.mjs opens: ali-oss's browser build, and what a page can do without it.

import { AliOss, describe } from "/ali_oss.mjs";

const { OSS } = window;

class InPage extends AliOss {
  file(data, type) {
    return new File([this.bytes(data)], "chosen.bin", { type });
  }

  async put_file({ key, data, ...given }) {
    return this.shown(await this.oss.put(key, this.file(data), this.options(given)));
  }

  async upload_file({ key, data, part_size, ...given }) {
    const options = { ...this.options(given), partSize: part_size, parallel: 2 };
    return this.shown(await this.oss.multipartUpload(key, this.file(data), options));
  }

  form({ fields, data, type }) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", this.file(data, type));
    return form;
  }

  async read(response) {
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      data: this.Buffer.from(await response.arrayBuffer()).toString("base64"),
    };
  }

  async fetch_form({ url, ...given }) {
    return this.read(await fetch(url, { method: "POST", body: this.form(given) }));
  }

  async fetch({ method, url, headers, data }) {
    const body = data && { body: this.bytes(data) };
    return this.read(await fetch(url, { method, headers, ...body }));
  }

  /** What older pages do, which also learn of the progress. */
  xhr_form({ url, ...given }) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      let sent = 0;
      request.upload.onprogress = ({ loaded }) => (sent = loaded);
      request.onload = () =>
        resolve({
          status: request.status,
          etag: request.getResponseHeader("ETag"),
          request_id: request.getResponseHeader("x-oss-request-id"),
          answer: request.responseText,
          sent,
        });
      request.onerror = () => reject(new Error("the browser kept the answer from the page"));
      request.open("POST", url);
      request.send(this.form(given));
    });
  }
}

window.client = null;

window.start = (settings) => {
  window.client = new InPage(OSS, OSS.Buffer, settings);
};

window.run = async (operation, given) => {
  try {
    return await window.client[operation](given);
  } catch (fault) {
    return describe(fault);
  }
};

/** Fills in a form as a person would, and sends it. */
window.submit = ({ url, fields, data }) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: url, enctype: "multipart/form-data" });
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("textarea");
    Object.assign(input, { name, value });
    form.append(input);
  }
  const chosen = new DataTransfer();
  chosen.items.add(window.client.file(data));
  const input = document.createElement("input");
  Object.assign(input, { type: "file", name: "file", files: chosen.files });
  form.append(input);
  document.body.append(form);
  form.submit();
};
