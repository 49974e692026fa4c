// Stored completions, conversations, models and moderations through OpenAI's SDK for Node.js.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI();
const model = "turnstream-fast";

test("the life of a stored completion", async () => {
  const mark = randomUUID();
  const made = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Keep this" }],
    store: true,
    metadata: { mark },
  });
  const listed = await Array.fromAsync(client.chat.completions.list({ metadata: { mark } }));
  assert.deepEqual(
    listed.map((one) => one.id),
    [made.id],
  );
  assert.deepEqual((await client.chat.completions.update(made.id, { metadata: { mark: "new" } })).metadata, {
    mark: "new",
  });
  const asked = await Array.fromAsync(client.chat.completions.messages.list(made.id));
  assert.equal(asked[0].content, "Keep this");
  assert.ok((await client.chat.completions.delete(made.id)).deleted);
  await assert.rejects(client.chat.completions.retrieve(made.id), OpenAI.NotFoundError);
});

test("the life of a conversation", async () => {
  const made = await client.conversations.create({
    metadata: { topic: "demo" },
    items: [{ type: "message", role: "user", content: "Hello!" }],
  });
  assert.deepEqual((await client.conversations.retrieve(made.id)).metadata, { topic: "demo" });
  const added = await client.conversations.items.create(made.id, {
    items: [{ type: "message", role: "user", content: [{ type: "input_text", text: "And this" }] }],
  });
  const listed = await Array.fromAsync(client.conversations.items.list(made.id, { order: "asc", limit: 1 }));
  assert.equal(listed.length, 2);
  assert.equal(listed[1].id, added.data[0].id);
  await client.responses.create({ model, input: "My name is Ada.", conversation: made.id });
  assert.ok((await client.conversations.delete(made.id)).deleted);
  await assert.rejects(client.conversations.retrieve(made.id), OpenAI.NotFoundError);
});

test("models", async () => {
  const ids = (await Array.fromAsync(client.models.list())).map((one) => one.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("moderations", async () => {
  const moderation = await client.moderations.create({ input: ["I like trains", "You too?"] });
  assert.deepEqual(
    moderation.results.map((result) => result.flagged),
    [false, false],
  );
});
