"""The official clients of OpenAI, Anthropic and Ollama against a real server with the built-in model, and with
the golden checkpoints where they are (MLXR_GOLDEN_DIR).

Usage: clients.py PATH_OF_MLXR
"""

import json
import os
import sys
import tempfile
import unittest
from typing import Annotated, Literal

import anthropic
import ollama
import openai
import pydantic

import models
from server import Server

MODEL = "stories"
MESSAGES = [{"role": "user", "content": "Tell me a story about a whale"}]


class Animal(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: Annotated[str, pydantic.Field(max_length=12)]
    kind: Literal["cat", "dog"]
    legs: Annotated[int, pydantic.Field(ge=0, le=8)]


WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}

FUNCTION = {"name": "get_weather", "description": "The weather of a city", "parameters": WEATHER}


class OpenAi(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0)

    def tearDown(self):
        self.client.close()

    def test_models(self):
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL)

    def test_chat(self):
        asked = dict(model=MODEL, messages=MESSAGES, seed=1, max_completion_tokens=20)
        whole = self.client.chat.completions.create(**asked)
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(whole.usage.completion_tokens, 20)
        stream = self.client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        usage = chunks[-1].usage
        self.assertEqual(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens - 1)

    def test_logprobs_and_extra_fields(self):
        answer = self.client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            max_tokens=3,
            temperature=0,
            logprobs=True,
            top_logprobs=2,
            extra_body={"top_k": 5, "repeat_penalty": 1.1},
        )
        content = answer.choices[0].logprobs.content
        self.assertEqual([len(token.top_logprobs) for token in content], [2, 2, 2])

    def test_completion(self):
        answer = self.client.completions.create(
            model=MODEL, prompt=["Once", "The"], max_tokens=5, echo=True, logprobs=1
        )
        self.assertTrue(answer.choices[1].text.startswith("The"))
        self.assertIsNone(answer.choices[1].logprobs.token_logprobs[0])
        self.assertEqual(len(answer.choices[1].logprobs.tokens), len(answer.choices[1].logprobs.text_offset))

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="none", messages=MESSAGES)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "word " * 3000}]
            )
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.chat.completions.create(
                model=MODEL, messages=MESSAGES, extra_body={"frobnicate": 1}
            )
        self.assertEqual(caught.exception.param, "frobnicate")
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()

    def test_form(self):
        asked = dict(model=MODEL, messages=MESSAGES, seed=1)
        answer = self.client.chat.completions.parse(**asked, response_format=Animal)
        self.assertIn(answer.choices[0].message.parsed.kind, ["cat", "dog"])
        told = self.client.responses.parse(model=MODEL, input="An animal", text_format=Animal)
        self.assertIn(told.output_parsed.kind, ["cat", "dog"])
        with self.assertRaises(openai.BadRequestError):
            self.client.chat.completions.create(
                **asked, tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="required"
            )

    def test_responses(self):
        asked = dict(model=MODEL, input="Tell me a story", max_output_tokens=16, temperature=0)
        whole = self.client.responses.create(**asked, instructions="You tell stories.")
        self.assertEqual(whole.status, "incomplete")
        self.assertEqual(whole.incomplete_details.reason, "max_output_tokens")
        with self.client.responses.stream(**asked, instructions="You tell stories.") as stream:
            events = list(stream)
        final = events[-1].response
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        names = [event.type for event in events]
        self.assertEqual(names[:3], ["response.created", "response.in_progress", "response.output_item.added"])
        self.assertEqual(names[-1], "response.incomplete")
        self.assertEqual(final.output_text, whole.output_text)
        self.assertEqual(final.usage.output_tokens, 16)
        self.assertEqual(final.usage.input_tokens_details.cached_tokens, final.usage.input_tokens - 1)

    def test_cancel(self):
        stream = self.client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=1000, stream=True
        )
        next(iter(stream))
        stream.close()
        self.test_chat()


class Anthropic(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=server.url, api_key="secret", max_retries=0)

    def tearDown(self):
        self.client.close()

    def test_messages(self):
        asked = dict(model=MODEL, messages=MESSAGES, max_tokens=16, system="You tell stories.")
        asked["extra_body"] = {"temperature": 0}
        whole = self.client.messages.create(**asked)
        self.assertEqual(whole.stop_reason, "max_tokens")
        with self.client.messages.stream(**asked) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, whole.content[0].text)
        self.assertEqual(final.content[0].text, text)
        self.assertEqual(final.usage.output_tokens, 16)
        counted = self.client.messages.count_tokens(
            model=MODEL, messages=MESSAGES, system="You tell stories."
        )
        usage = final.usage
        self.assertEqual(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens)

    def test_errors(self):
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(model="none", messages=MESSAGES, max_tokens=1)
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.client.messages.create(
                model=MODEL,
                max_tokens=1,
                messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}],
            )
        self.assertIn("blocks of type `image`", str(caught.exception))
        with self.assertRaises(anthropic.AuthenticationError):
            self.client.with_options(api_key="wrong").messages.create(
                model=MODEL, messages=MESSAGES, max_tokens=1
            )


class Ollama(unittest.TestCase):
    def setUp(self):
        self.client = ollama.Client(host=server.url, headers={"authorization": "Bearer secret"})

    def test_chat(self):
        options = {"seed": 1, "num_predict": 12}
        whole = self.client.chat(model=MODEL, messages=MESSAGES, options=options)
        lines = list(self.client.chat(model=MODEL, messages=MESSAGES, options=options, stream=True))
        text = "".join(line.message.content for line in lines)
        self.assertEqual(text, whole.message.content)
        self.assertEqual(lines[-1].eval_count, 12)
        self.assertEqual(lines[-1].done_reason, "length")

    def test_form(self):
        schema = Animal.model_json_schema()
        answer = self.client.chat(model=MODEL, messages=MESSAGES, format=schema)
        self.assertIn(Animal.model_validate_json(answer.message.content).kind, ["cat", "dog"])

    def test_generate(self):
        answer = self.client.generate(
            model=MODEL, prompt="Once upon a time", raw=True, options={"num_predict": 4}
        )
        self.assertGreater(len(answer.response), 4)

    def test_models(self):
        self.assertIn(MODEL, [model.model for model in self.client.list().models])
        self.assertIn("completion", self.client.show(MODEL).capabilities)
        self.client.generate(model=MODEL, keep_alive="10m")
        self.assertEqual([model.name for model in self.client.ps().models], [MODEL])

    def test_errors(self):
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.chat(model="none", messages=MESSAGES)
        self.assertEqual(caught.exception.status_code, 404)


class Tools(unittest.TestCase):
    """A model that can be made to call, by every dialect: whole, in a stream, and with the result."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(program, "-m", models.caller(cls.folder.name))

    @classmethod
    def tearDownClass(cls):
        cls.server.end()
        cls.folder.cleanup()

    def check(self, name, arguments):
        self.assertEqual(name, "get_weather")
        self.assertEqual(set(arguments), {"city", "unit"})
        self.assertIn(arguments["unit"], ["celsius", "fahrenheit"])

    def test_openai(self):
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)
        asked = dict(
            model="caller",
            messages=MESSAGES,
            tools=[{"type": "function", "function": FUNCTION}],
            tool_choice="required",
            seed=1,
        )
        choice = client.chat.completions.create(**asked).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        [call] = choice.message.tool_calls
        self.check(call.function.name, json.loads(call.function.arguments))
        with client.chat.completions.stream(**asked) as stream:
            for _ in stream:
                pass
            [streamed] = stream.get_final_completion().choices[0].message.tool_calls
        self.assertEqual(streamed.function.arguments, call.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        asked["messages"] = [*MESSAGES, choice.message, result]
        asked["tool_choice"] = "none"
        answer = client.chat.completions.create(**asked, max_tokens=8)
        self.assertIsNone(answer.choices[0].message.tool_calls)

    def test_responses(self):
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)
        response = client.responses.create(
            model="caller",
            input="What is the weather?",
            tools=[{"type": "function", **FUNCTION, "strict": True}],
            tool_choice={"type": "function", "name": "get_weather"},
        )
        [call] = [item for item in response.output if item.type == "function_call"]
        self.check(call.name, json.loads(call.arguments))

    def test_anthropic(self):
        client = anthropic.Anthropic(base_url=self.server.url, api_key="none", max_retries=0)
        asked = dict(
            model="caller",
            max_tokens=200,
            messages=MESSAGES,
            tools=[{"name": "get_weather", "description": "The weather", "input_schema": WEATHER}],
            tool_choice={"type": "tool", "name": "get_weather"},
        )
        whole = client.messages.create(**asked)
        self.assertEqual(whole.stop_reason, "tool_use")
        [call] = [block for block in whole.content if block.type == "tool_use"]
        self.check(call.name, call.input)
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        [call] = [block for block in final.content if block.type == "tool_use"]
        self.check(call.name, call.input)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
        said = {"role": "assistant", "content": final.content}
        asked["messages"] = [*MESSAGES, said, {"role": "user", "content": [result]}]
        asked["tool_choice"] = {"type": "none"}
        self.assertNotEqual(client.messages.create(**asked).stop_reason, "tool_use")

    def test_ollama(self):
        client = ollama.Client(host=self.server.url)
        self.assertIn("tools", client.show("caller").capabilities)
        tools = [{"type": "function", "function": FUNCTION}]
        answer = client.chat(model="caller", messages=MESSAGES, tools=tools, options={"num_predict": 8})
        self.assertEqual(answer.message.role, "assistant")
        call = {"function": {"name": "get_weather", "arguments": {"city": "Bern", "unit": "celsius"}}}
        called = {"role": "assistant", "content": "", "tool_calls": [call]}
        messages = [*MESSAGES, called, {"role": "tool", "content": "rain", "tool_name": "get_weather"}]
        lines = list(client.chat(model="caller", messages=messages, tools=tools, stream=True))
        self.assertTrue(lines[-1].done)


class Embeddings(unittest.TestCase):
    """A model that says that it makes them, and one that does not."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(program, "-m", models.embedder(cls.folder.name))

    @classmethod
    def tearDownClass(cls):
        cls.server.end()
        cls.folder.cleanup()

    def test_both(self):
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)
        # This client asks for base64 by itself.
        told = client.embeddings.create(model="embedder", input=["The cat", "The dog"])
        [cat, dog] = [one.embedding for one in told.data]
        plain = client.embeddings.create(model="embedder", input="The cat", encoding_format="float")
        self.assertEqual(len(cat), len(plain.data[0].embedding))
        self.assertAlmostEqual(sum(a * b for a, b in zip(cat, plain.data[0].embedding)), 1, 4)
        local = ollama.Client(host=self.server.url)
        embedded = local.embed(model="embedder", input=["The dog"]).embeddings[0]
        self.assertAlmostEqual(sum(a * b for a, b in zip(dog, embedded)), 1, 4)
        self.assertIn("embedding", local.show("embedder").capabilities)

    def test_others_refuse(self):
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0)
        with self.assertRaises(openai.BadRequestError) as caught:
            client.embeddings.create(model=MODEL, input="a")
        self.assertEqual(caught.exception.param, "model")


class Golden(unittest.TestCase):
    """Every architecture: streams, forms and calls."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        paths = models.golden(cls.folder.name)
        if not paths:
            cls.folder.cleanup()
            raise unittest.SkipTest("no golden checkpoints: set MLXR_GOLDEN_DIR")
        cls.names = [os.path.basename(path) for path in paths]
        named = [argument for path in paths for argument in ("-m", path)]
        cls.server = Server(program, "--loaded", "2", *named)

    @classmethod
    def tearDownClass(cls):
        cls.server.end()
        cls.folder.cleanup()

    def test_every_model(self):
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none", max_retries=0)
        claude = anthropic.Anthropic(base_url=self.server.url, api_key="none", max_retries=0)
        local = ollama.Client(host=self.server.url)
        for name in self.names:
            with self.subTest(name):
                asked = dict(model=name, messages=MESSAGES, max_tokens=24, temperature=0)
                whole = client.chat.completions.create(**asked).choices[0].message.content
                stream = client.chat.completions.create(**asked, stream=True)
                text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                self.assertEqual(text, whole)
                asked["extra_body"] = {"temperature": asked.pop("temperature")}
                message = claude.messages.create(**asked)
                self.assertEqual("".join(block.text for block in message.content), whole)
                options = {"num_predict": 24, "temperature": 0}
                lines = local.chat(model=name, messages=MESSAGES, options=options, stream=True)
                self.assertEqual("".join(line.message.content for line in lines), whole)
                form = client.chat.completions.parse(
                    model=name, messages=MESSAGES, response_format=Animal, seed=1
                )
                self.assertIn(form.choices[0].message.parsed.kind, ["cat", "dog"])
                called = client.chat.completions.create(
                    model=name,
                    messages=MESSAGES,
                    tools=[{"type": "function", "function": FUNCTION}],
                    tool_choice="required",
                    seed=1,
                )
                [call] = called.choices[0].message.tool_calls
                self.assertIn("city", json.loads(call.function.arguments))


if __name__ == "__main__":
    program = os.path.abspath(sys.argv.pop(1))
    server = Server(program, "--api-key", "secret")
    try:
        ended = unittest.main(exit=False)
    finally:
        server.end()
    sys.exit(not ended.result.wasSuccessful())
