"""The official clients of OpenAI, Anthropic and Ollama against a real server with the built-in model.

Usage: clients.py PATH_OF_MLXR
"""

import os
import sys
import unittest
from typing import Annotated, Literal

import anthropic
import ollama
import openai
import pydantic

from server import Server

MODEL = "stories"
MESSAGES = [{"role": "user", "content": "Tell me a story about a whale"}]


class Animal(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: Annotated[str, pydantic.Field(max_length=12)]
    kind: Literal["cat", "dog"]
    legs: Annotated[int, pydantic.Field(ge=0, le=8)]


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
            model=MODEL, prompt=["Once", "The"], max_tokens=5, echo=True
        )
        self.assertTrue(answer.choices[1].text.startswith("The"))

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


if __name__ == "__main__":
    server = Server(os.path.abspath(sys.argv.pop(1)), "--api-key", "secret")
    try:
        ended = unittest.main(exit=False)
    finally:
        server.end()
    sys.exit(not ended.result.wasSuccessful())
