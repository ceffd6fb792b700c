// Proves a callback, reads its record and writes the next one, with the AWS SDK, inside the smallest loop that the Runtime API
// allows. Lambda's own runtime for Node does more than this loop.
import { createVerify } from "node:crypto";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { DynamoDBClient, GetItemCommand, PutItemCommand } from "@aws-sdk/client-dynamodb";

const agent = new Agent({ keepAlive: true });
const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
const table = process.env.TABLE;
const key = readFileSync(process.env.KEY_FILE, "utf8");
const store = new DynamoDBClient({});

async function answer(event) {
  const body = Buffer.from(event.body, event.isBase64Encoded ? "base64" : "utf8");
  const query = event.rawQueryString ? `?${event.rawQueryString}` : "";
  const signed = Buffer.concat([Buffer.from(`${event.rawPath}${query}\n`), body]);
  const signature = Buffer.from(event.headers.authorization, "base64");
  if (!createVerify("RSA-MD5").update(signed).verify(key, signature)) return [403, { status: "refused" }];

  const fields = new URLSearchParams(body.toString());
  const pk = { S: `${fields.get("bucket")}/${fields.get("object")}` };
  const standing = await store.send(new GetItemCommand({ TableName: table, Key: { pk }, ConsistentRead: true }));
  const generation = Number(standing.Item?.generation?.N ?? 0);
  const item = { pk, generation: { N: String(generation + 1) }, state: { S: "recorded" }, etag: { S: fields.get("etag") } };
  await store.send(
    new PutItemCommand({
      TableName: table,
      Item: item,
      ...(generation
        ? {
            ConditionExpression: "generation = :generation",
            ExpressionAttributeValues: { ":generation": { N: String(generation) } },
          }
        : { ConditionExpression: "attribute_not_exists(pk)" }),
    }),
  );
  return [200, { status: "recorded" }];
}

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const sent = request(`${api}/${path}`, { method, agent }, (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () => resolve({ headers: response.headers, text }));
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

for (;;) {
  const invocation = await call("GET", "next");
  const [statusCode, json] = await answer(JSON.parse(invocation.text));
  const headers = { "content-type": "application/json" };
  const response = { statusCode, headers, body: JSON.stringify(json), isBase64Encoded: false };
  await call("POST", `${invocation.headers["lambda-runtime-aws-request-id"]}/response`, JSON.stringify(response));
}
