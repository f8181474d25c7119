from httpx import AsyncClient


class TestSendMessage:
    async def test_a_message_is_answered_and_both_are_recorded(
        self, client: AsyncClient, alice: str, bearer
    ):
        response = await client.post(
            "/api/v1/me/chat", json={"message": "hello"}, headers=bearer(alice)
        )

        assert 200 == response.status_code
        assert "You said: hello\nI remember nothing yet." == response.json()["reply"]["content"]
