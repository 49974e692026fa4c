// Vercel's AI SDK with its provider for OpenAI-compatible servers, and with its provider for OpenAI (Responses API).
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = process.env.OPENAI_BASE_URL ?? "";
const apiKey = process.env.OPENAI_API_KEY;
const compatible = createOpenAICompatible({
  name: "turnstream",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL, apiKey });
const getWeather = tool({
  description: "The weather in a city now.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => ({ city, degrees: 31, sky: "sunny" }),
});

const models = {
  "chat completions": compatible("turnstream-fast"),
  responses: openai.responses("turnstream-fast"),
};

for (const [api, model] of Object.entries(models)) {
  describe(api, () => {
    test("generateText", async () => {
      const { text, finishReason, usage } = await generateText({ model, prompt: "Hello" });
      assert.ok(text);
      assert.equal(finishReason, "stop");
      assert.ok((usage.totalTokens ?? 0) > 0);
    });

    test("streamText", async () => {
      const result = streamText({ model, prompt: "Hello", onError: () => {} });
      const parts = await Array.fromAsync(result.textStream);
      assert.ok(parts.length > 1);
      assert.equal(parts.join(""), await result.text);
      assert.equal(await result.finishReason, "stop");
      assert.ok(((await result.usage).outputTokens ?? 0) > 0);
    });

    test("a structured answer", async () => {
      const schema = z.object({ city: z.string(), degrees: z.number() });
      const { output } = await generateText({
        model,
        output: Output.object({ schema }),
        prompt: "The weather in Rome, 31 degrees",
      });
      schema.parse(output);
    });

    test("a streamed structured answer", async () => {
      const schema = z.object({ city: z.string(), degrees: z.number() });
      const result = streamText({
        model,
        output: Output.object({ schema }),
        prompt: "The weather in Rome, 31 degrees",
      });
      for await (const _part of result.partialOutputStream);
      schema.parse(await result.output);
    });

    test("a loop of tools", async () => {
      const { text, steps } = await generateText({
        model,
        tools: { getWeather },
        stopWhen: stepCountIs(3),
        prompt: "What is the weather in Rome? Use the tool.",
      });
      assert.equal(steps.length, 2);
      assert.equal(steps[0].toolResults.length, 1);
      assert.match(text, /31/);
    });

    test("a streamed loop of tools", async () => {
      const result = streamText({
        model,
        tools: { getWeather },
        stopWhen: stepCountIs(3),
        prompt: "What is the weather in Rome? Use the tool.",
      });
      const kinds = new Set<string>();
      for await (const part of result.fullStream) kinds.add(part.type);
      assert.ok(kinds.has("tool-call") && kinds.has("tool-result"));
      assert.match(await result.text, /31/);
    });

    test("a conversation", async () => {
      const { text } = await generateText({
        model,
        instructions: "Be brief.",
        messages: [
          { role: "user", content: "My name is Ada." },
          { role: "assistant", content: "Hello Ada." },
          { role: "user", content: "What is my name?" },
        ],
      });
      assert.match(text, /Ada/);
    });

    test("a failure of the model is told", async () => {
      const prompt = "[[demo tokens=20 error=invalid error_after=5]]";
      const result = streamText({ model, prompt, maxRetries: 0, onError: () => {} });
      const kinds: string[] = [];
      for await (const part of result.fullStream) kinds.push(part.type);
      assert.ok(kinds.includes("error"));
    });
  });
}
