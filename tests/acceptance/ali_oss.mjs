// What ali-oss does with the stand-in, the same in Node and in a browser: each operation that standin_checks.py names
// is a method. Bytes come and go as Base64.

const EXPIRES_SECONDS = 300;

/** A refusal by the server, as ali-oss throws it, or else a fault of the client. */
export function describe(fault) {
  const { status, code, message } = fault;
  return status > 0 ? { error: { status, code, message } } : { fault: fault.stack ?? String(fault) };
}

export class AliOss {
  constructor(OSS, Buffer, settings) {
    this.OSS = OSS;
    this.Buffer = Buffer;
    this.settings = settings;
    this.oss = this.client({ endpoint: settings.endpoint, sldEnable: settings.path_style });
    // With the bucket in the path, so that the URL works without a Host header of its own.
    this.oss_by_path = this.client({ endpoint: settings.endpoint, sldEnable: true });
    // By name: version 1 does not presign for an address, where requests without a bucket name one called `undefined`.
    const named = settings.endpoint.replace("127.0.0.1", "localhost");
    this.oss_by_name = this.client({ endpoint: named, sldEnable: true });
  }

  client(options) {
    const { access_key_id, access_key_secret, bucket, region, version, token } = this.settings;
    return new this.OSS({
      accessKeyId: access_key_id,
      accessKeySecret: access_key_secret,
      ...(token && { stsToken: token }),
      bucket,
      region: `oss-${region}`,
      authorizationV4: version === "v4",
      ...options,
    });
  }

  get is_v4() {
    return this.settings.version === "v4";
  }

  bytes(base64) {
    return this.Buffer.from(base64, "base64");
  }

  callback(callback, custom) {
    if (!callback) return {};
    // ali-oss puts the `x:` before the names itself.
    const values = Object.entries(custom).map(([name, value]) => [name.replace(/^x:/, ""), value]);
    return {
      callback: {
        url: callback.callbackUrl,
        body: callback.callbackBody,
        contentType: callback.callbackBodyType,
        customValue: Object.fromEntries(values),
      },
    };
  }

  options({ mime, callback, custom, metadata }) {
    return { mime, meta: metadata, ...this.callback(callback, custom) };
  }

  shown({ res, data }) {
    // As it came: what ali-oss makes of it has lost the last digits of the CRC-64.
    const answer = data === undefined ? undefined : this.Buffer.from(res.data).toString();
    if (answer !== undefined && JSON.stringify(JSON.parse(answer)) !== JSON.stringify(data)) {
      throw new Error(`the callback's answer is ${answer}, and ali-oss gives ${JSON.stringify(data)}`);
    }
    return { status: res.status, etag: res.headers.etag, request_id: res.headers["x-oss-request-id"], answer };
  }

  async put({ key, data, ...given }) {
    return this.shown(await this.oss.put(key, this.bytes(data), this.options(given)));
  }

  async multipart({ key, parts, mime, callback, custom }) {
    const buffers = parts.map((part) => this.bytes(part));
    const { uploadId } = await this.oss.initMultipartUpload(key, { mime });
    const uploaded = [];
    for (const [at, part] of buffers.entries()) {
      const { etag } = await this.oss.uploadPart(key, uploadId, at + 1, part, 0, part.length);
      uploaded.push({ number: at + 1, etag });
    }
    const listed = await this.oss.listParts(key, uploadId);
    const sizes = [listed.parts].flat().map(({ PartNumber, Size }) => [Number(PartNumber), Number(Size)]);
    const wanted = buffers.map((part, at) => [at + 1, part.length]);
    if (`${sizes}` !== `${wanted}`) throw new Error(`parts are listed as ${sizes}, not ${wanted}`);
    const running = (await this.oss.listUploads({ prefix: key })).uploads.map((upload) => upload.uploadId);
    if (!running.includes(uploadId)) throw new Error(`the uploads are listed as ${running}, without ${uploadId}`);
    return this.shown(
      await this.oss.completeMultipartUpload(key, uploadId, uploaded, this.callback(callback, custom)),
    );
  }

  /** Version 1 has the callback in the query, version 4 in headers that are signed. */
  async presign_put({ key, mime, callback, custom, metadata = {} }) {
    const described = Object.entries(metadata).map(([name, value]) => [`x-oss-meta-${name}`, value]);
    const headers = { "Content-Type": mime, ...Object.fromEntries(described) };
    if (this.is_v4) {
      if (callback) {
        headers["x-oss-callback"] = this.base64_json(callback);
        headers["x-oss-callback-var"] = this.base64_json(custom);
      }
      return { url: await this.oss_by_path.signatureUrlV4("PUT", EXPIRES_SECONDS, { headers }, key), headers };
    }
    const options = { method: "PUT", expires: EXPIRES_SECONDS, ...headers, ...this.callback(callback, custom) };
    return { url: this.oss_by_name.signatureUrl(key, options), headers };
  }

  /** Version 4 with the callback in the query, for which ali-oss has no option of its own. */
  async presign_put_query({ key, mime, callback, custom }) {
    const headers = { "Content-Type": mime };
    const queries = { callback: this.base64_json(callback), "callback-var": this.base64_json(custom) };
    return { url: await this.oss_by_path.signatureUrlV4("PUT", EXPIRES_SECONDS, { headers, queries }, key), headers };
  }

  base64_json(value) {
    return this.Buffer.from(JSON.stringify(value)).toString("base64");
  }

  async presign_get({ key }) {
    const url = this.is_v4
      ? await this.oss_by_path.signatureUrlV4("GET", EXPIRES_SECONDS, {}, key)
      : this.oss_by_name.signatureUrl(key, { expires: EXPIRES_SECONDS });
    return { url, headers: {} };
  }

  async post_fields({ policy }) {
    if (!this.is_v4) return { fields: this.oss.calculatePostSignature(policy) };
    const now = new Date();
    const time = now.toISOString().replace(/[-:]|\.\d+/g, "");
    const { access_key_id, region } = this.settings;
    const signed = {
      "x-oss-signature-version": "OSS4-HMAC-SHA256",
      "x-oss-credential": `${access_key_id}/${time.slice(0, 8)}/${region}/oss/aliyun_v4_request`,
      "x-oss-date": time,
    };
    const whole = {
      ...policy,
      conditions: [...policy.conditions, ...Object.entries(signed).map(([name, value]) => ({ [name]: value }))],
    };
    const signature = this.oss.signPostObjectPolicyV4(whole, now);
    return { fields: { policy: this.base64_json(whole), ...signed, "x-oss-signature": signature } };
  }

  async get({ key, headers, process }) {
    const { content, res } = await this.oss.get(key, { headers, process });
    // ali-oss takes this for a success.
    if (res.status === 304) throw Object.assign(new Error("not modified"), { status: 304 });
    return { data: this.Buffer.from(content).toString("base64") };
  }

  get_range({ key, first, last }) {
    return this.get({ key, headers: { Range: `bytes=${first}-${last}` } });
  }

  get_unless({ key, etag }) {
    return this.get({ key, headers: { "If-None-Match": etag } });
  }

  image_info({ key }) {
    return this.get({ key, process: "image/info" });
  }

  async head({ key }) {
    const { meta, res } = await this.oss.head(key);
    const { res: described } = await this.oss.getObjectMeta(key);
    for (const name of ["etag", "content-length"]) {
      const [seen, wanted] = [described.headers[name], res.headers[name]];
      if (seen !== wanted) throw new Error(`GetObjectMeta says ${name} ${seen}, HeadObject ${wanted}`);
    }
    return {
      size: Number(res.headers["content-length"]),
      mime: res.headers["content-type"],
      etag: res.headers.etag,
      metadata: meta ?? {},
    };
  }

  // No empty delimiter is sent: by version 4 ali-oss signs `delimiter=`, but for the `uploads=` it sends `uploads`.
  list_v1({ prefix, delimiter, max_keys }) {
    return this.pages(async (marker) => {
      const query = { prefix, ...(delimiter && { delimiter }), "max-keys": max_keys, ...(marker && { marker }) };
      const page = await this.oss.list(query);
      return { page, next: page.isTruncated && page.nextMarker };
    });
  }

  list_v2({ prefix, delimiter, max_keys }) {
    return this.pages(async (token) => {
      const query = { prefix, ...(delimiter && { delimiter }), "max-keys": max_keys };
      const page = await this.oss.listV2({ ...query, ...(token && { "continuation-token": token }) });
      return { page, next: page.isTruncated && page.nextContinuationToken };
    });
  }

  async pages(fetchPage) {
    const [keys, prefixes] = [[], []];
    let next;
    do {
      const fetched = await fetchPage(next);
      keys.push(...fetched.page.objects.map(({ name }) => name));
      prefixes.push(...(fetched.page.prefixes ?? []));
      next = fetched.next;
    } while (next);
    return { keys, prefixes };
  }

  async delete({ key }) {
    await this.oss.delete(key);
    return {};
  }

  async delete_many({ keys }) {
    const { deleted } = await this.oss.deleteMulti(keys);
    return { keys: deleted.map(({ Key }) => Key) };
  }

  async create_bucket({ bucket }) {
    await this.oss.putBucket(bucket);
    return {};
  }

  async delete_bucket({ bucket }) {
    await this.oss.deleteBucket(bucket);
    return {};
  }

  async list_buckets() {
    const names = [];
    let marker;
    do {
      const query = { "max-keys": 1, ...(marker && { marker }) };
      const page = await this.oss_by_name.listBuckets(query);
      names.push(...(page.buckets ?? []).map(({ name }) => name));
      marker = page.isTruncated && page.nextMarker;
    } while (marker);
    return { names };
  }

  /** Lets pages of every origin in, and has them read these headers of the answers. */
  async allow_pages({ headers }) {
    const rule = {
      allowedOrigin: "*",
      allowedMethod: ["GET", "HEAD", "PUT", "POST", "DELETE"],
      allowedHeader: "*",
      exposeHeader: headers,
    };
    await this.oss.putBucketCORS(this.settings.bucket, [rule]);
    return {};
  }

  async bucket_info() {
    const { bucket } = await this.oss.getBucketInfo(this.settings.bucket);
    const { location } = await this.oss.getBucketLocation(this.settings.bucket);
    return { name: bucket.Name, location: location === bucket.Location ? location : [location, bucket.Location] };
  }
}
