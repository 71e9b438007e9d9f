"""The page at `/` in a headless browser, against a real server with the built-in model.

Usage: page.py PATH_OF_MLXR PATH_OF_CHROMIUM
"""

import os
import sys
import unittest

from playwright.sync_api import expect, sync_playwright

from server import Server


STOP_AT_FIRST_WORD = """
    new MutationObserver(() => {
        if (document.querySelector(".assistant")?.textContent) document.getElementById("stop").click();
    }).observe(document.getElementById("messages"), {childList: true, subtree: true});
"""


class Page(unittest.TestCase):
    def setUp(self):
        self.page = browser.new_page()
        self.said = []
        self.asked = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def tearDown(self):
        self.page.close()
        elsewhere = [url for url in self.asked if not url.startswith((server.url, "data:"))]
        self.assertEqual(elsewhere, [])

    def ask(self, text):
        self.page.get_by_label("Your message").fill(text)
        self.page.get_by_role("button", name="Send").click()

    def test_a_chat_and_what_the_server_holds(self):
        self.page.goto(server.url)
        expect(self.page.locator("#model option")).to_have_count(1)
        self.page.get_by_text("Settings").click()
        self.page.get_by_label("Most tokens").fill("30")
        self.ask("Tell me a story about a whale")
        answer = self.page.locator("#messages .assistant").last
        expect(answer).to_contain_text("30 out")
        self.ask("And then?")
        expect(self.page.locator("#messages .assistant small")).to_have_count(2)
        expect(self.page.locator("#messages .assistant").last).to_contain_text("30 out")
        state = self.page.get_by_label("State of the server")
        expect(state).to_contain_text("Qwen3ForCausalLM on cpu")
        expect(state).to_contain_text("whale")
        self.page.get_by_role("button", name="New chat").click()
        expect(self.page.locator("#messages li")).to_have_count(0)
        self.assertEqual(self.said, [])

    def test_an_answer_is_stopped(self):
        self.page.goto(server.url)
        expect(self.page.locator("#model option")).to_have_count(1)
        self.page.evaluate(STOP_AT_FIRST_WORD)
        self.ask("Tell me a very long story")
        expect(self.page.locator("#messages .assistant")).not_to_have_text("")
        expect(self.page.get_by_role("button", name="Send")).to_be_enabled()
        # What it took stands below an answer that was not stopped.
        expect(self.page.locator("#messages .assistant small")).to_have_count(0)
        self.assertEqual(self.said, [])

    def test_a_failure_is_told(self):
        self.page.goto(server.url)
        expect(self.page.locator("#model option")).to_have_count(1)
        self.ask("word " * 3000)
        failed = self.page.locator("#messages .failed")
        expect(failed).to_contain_text("tokens and the context holds 2048")

    def test_a_key_is_asked_for(self):
        self.page.goto(closed.url)
        expect(self.page.get_by_label("Key")).to_be_visible()
        self.page.get_by_label("Key").fill("secret")
        self.page.get_by_label("Key").press("Enter")
        expect(self.page.locator("#model option")).to_have_count(1)
        self.asked = []


if __name__ == "__main__":
    program, chromium = os.path.abspath(sys.argv.pop(1)), sys.argv.pop(1)
    server, closed = Server(program), Server(program, "--api-key", "secret")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium)
            ended = unittest.main(exit=False)
            browser.close()
    finally:
        server.end()
        closed.end()
    sys.exit(not ended.result.wasSuccessful())
