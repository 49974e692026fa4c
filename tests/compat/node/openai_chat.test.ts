// Chat completions through OpenAI's SDK for Node.js, as its documentation shows them.
// Where to go comes from OPENAI_BASE_URL and OPENAI_API_KEY, as its users have it.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI();
const model = "turnstream-fast";
const messages = [{ role: "user" as const, content: "Hello" }];
const tool = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather in a city now.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const asked = [{ role: "user" as const, content: "What is the weather in Rome? Use the tool." }];

test("a whole answer", async () => {
  const completion = await client.chat.completions.create({ model, messages });
  assert.ok(completion.choices[0].message.content);
  assert.equal(completion.choices[0].finish_reason, "stop");
  assert.ok(completion._request_id);
});

test("a streamed answer", async () => {
  const stream = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  const whole = await client.chat.completions.create({ model, messages });
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage, whole.usage);
});

test("the stream helper", async () => {
  const runner = client.chat.completions.stream({ model, messages });
  let text = "";
  runner.on("content", (delta) => (text += delta));
  assert.equal(await runner.finalContent(), text);
});

test("a stream that is left", async () => {
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "[[demo tokens=500 gap_ms=20]]" }],
    stream: true,
  });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) break;
  }
  assert.ok(stream.controller.signal.aborted);
});

test("an answer parsed by a schema", async () => {
  const weather = z.object({ city: z.string(), degrees: z.number(), sunny: z.boolean() });
  const completion = await client.chat.completions.parse({
    model,
    messages: [{ role: "user", content: "The weather in Rome, 31 degrees" }],
    response_format: zodResponseFormat(weather, "weather"),
  });
  weather.parse(completion.choices[0].message.parsed);
});

test("several choices with log probabilities", async () => {
  const completion = await client.chat.completions.create({
    model,
    messages,
    n: 2,
    logprobs: true,
    top_logprobs: 1,
    max_completion_tokens: 4,
  });
  assert.deepEqual(
    completion.choices.map((choice) => [choice.index, choice.logprobs?.content?.length]),
    [
      [0, 4],
      [1, 4],
    ],
  );
});

test("a loop of question, call, result and answer", async () => {
  const first = await client.chat.completions.create({ model, messages: asked, tools: [tool] });
  const said = first.choices[0].message;
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  const call = said.tool_calls?.[0];
  assert.ok(call?.type === "function");
  assert.ok("city" in JSON.parse(call.function.arguments));
  const second = await client.chat.completions.create({
    model,
    tools: [tool],
    messages: [...asked, said, { role: "tool", tool_call_id: call.id, content: "Sunny, 31 degrees" }],
  });
  assert.match(second.choices[0].message.content ?? "", /31/);
});

test("the SDK's own tool loop", async () => {
  const runner = client.chat.completions.runTools({
    model,
    messages: asked,
    tools: [
      {
        type: "function",
        function: {
          ...tool.function,
          function: (given: { city: string }) => `Sunny in ${given.city}, 31 degrees`,
          parse: JSON.parse as (text: string) => { city: string },
        },
      },
    ],
  });
  assert.match((await runner.finalContent()) ?? "", /31/);
});

test("a failure in the middle of a stream is an error", async () => {
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "[[demo tokens=20 error=invalid error_after=5]]" }],
    stream: true,
  });
  await assert.rejects(async () => {
    for await (const _chunk of stream);
  }, OpenAI.APIError);
});

test("errors have their classes and codes", async () => {
  const stranger = new OpenAI({ apiKey: "sk-wrong" });
  await assert.rejects(
    stranger.chat.completions.create({ model, messages }),
    (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key",
  );
  await assert.rejects(
    client.chat.completions.create({ model: "gpt-nobody", messages }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
  await assert.rejects(
    client.chat.completions.create({ model, messages, temperature: 3 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
  );
});

test("the raw response", async () => {
  const { data, response, request_id } = await client.chat.completions.create({ model, messages }).withResponse();
  assert.ok(data.id && request_id);
  assert.ok(Number(response.headers.get("x-ratelimit-remaining-requests")) >= 0);
});
