// The Responses API through OpenAI's SDK for Node.js: whole, streamed, in the background, resumed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI();
const model = "turnstream-fast";
const slow = "[[demo tokens=40 gap_ms=20]]";
const tool = {
  type: "function" as const,
  name: "get_weather",
  description: "The weather in a city now.",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
  strict: true,
};

test("a whole response", async () => {
  const response = await client.responses.create({ model, input: "Hello", instructions: "Be brief." });
  assert.equal(response.status, "completed");
  assert.ok(response.output_text);
  assert.equal((await client.responses.retrieve(response.id)).output_text, response.output_text);
});

test("a streamed response has gapless numbers", async () => {
  const stream = await client.responses.create({ model, input: "Hello", stream: true });
  const events = await Array.fromAsync(stream);
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    events.map((_, place) => place),
  );
  assert.equal(events[0].type, "response.created");
  assert.equal(events.at(-1)?.type, "response.completed");
});

test("the stream helper", async () => {
  const stream = client.responses.stream({ model, input: "Hello" });
  let text = "";
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  assert.equal((await stream.finalResponse()).output_text, text);
});

test("a background response is polled", async () => {
  let response = await client.responses.create({ model, input: slow, background: true });
  while (response.status === "queued" || response.status === "in_progress") {
    await wait(50);
    response = await client.responses.retrieve(response.id);
  }
  assert.equal(response.status, "completed");
});

for (const background of [false, true]) {
  test(`a stream is resumed after a place, background: ${background}`, async () => {
    const stream = await client.responses.create({ model, input: slow, background, stream: true });
    let id = "";
    let place = -1;
    for await (const event of stream) {
      place = event.sequence_number;
      if (event.type === "response.created") id = event.response.id;
      if (event.type === "response.output_text.delta") break;
    }
    const rest = await Array.fromAsync(await client.responses.retrieve(id, { stream: true, starting_after: place }));
    assert.equal(rest[0].sequence_number, place + 1);
    assert.equal(rest.at(-1)?.type, "response.completed");
  });
}

test("the stream helper resumes", async () => {
  const response = await client.responses.create({ model, input: slow, background: true });
  const stream = client.responses.stream({ response_id: response.id, starting_after: 5 });
  const numbers: number[] = [];
  stream.on("event", (event) => numbers.push(event.sequence_number));
  assert.ok((await stream.finalResponse()).output_text);
  assert.equal(numbers[0], 6);
});

test("a background response is cancelled", async () => {
  const response = await client.responses.create({
    model,
    input: "[[demo tokens=2000 gap_ms=20]]",
    background: true,
  });
  assert.equal((await client.responses.cancel(response.id)).status, "cancelled");
});

test("a response continues another, and is deleted", async () => {
  const first = await client.responses.create({ model, input: "My name is Ada." });
  const second = await client.responses.create({
    model,
    input: "What is my name?",
    previous_response_id: first.id,
  });
  assert.match(second.output_text, /Ada/);
  await client.responses.delete(second.id);
  await assert.rejects(client.responses.retrieve(second.id), OpenAI.NotFoundError);
});

test("a loop of question, call, result and answer", async () => {
  const first = await client.responses.create({
    model,
    input: "What is the weather in Rome? Use the tool.",
    tools: [tool],
  });
  const call = first.output.find((item) => item.type === "function_call");
  assert.ok(call);
  const second = await client.responses.create({
    model,
    previous_response_id: first.id,
    tools: [tool],
    input: [{ type: "function_call_output", call_id: call.call_id, output: "Sunny, 31 degrees" }],
  });
  assert.match(second.output_text, /31/);
});

test("a response parsed by a schema", async () => {
  const weather = z.object({ city: z.string(), degrees: z.number() });
  const response = await client.responses.parse({
    model,
    input: "The weather in Rome, 31 degrees",
    text: { format: zodTextFormat(weather, "weather") },
  });
  weather.parse(response.output_parsed);
});
