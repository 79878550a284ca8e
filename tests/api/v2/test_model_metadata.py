"""What models and their statistics say of themselves."""

from tests.api.v2.bodies import request_of


async def test_the_metadata_says_what_is_answered(client, infer, rows) -> None:
    outputs, _ = await infer(request_of(rows))
    described = (await client.get("/v2/models/breast-cancer")).json()
    assert described["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}]
    assert described["platform"] == "onnx_onnxv1"
    for entry in described["outputs"]:
        answered = outputs[entry["name"]]
        assert answered["datatype"] == entry["datatype"]
        assert answered["shape"][1:] == entry["shape"][1:]


async def test_server_and_models_are_live_ready_and_described(client) -> None:
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    described = (await client.get("/v2")).json()
    assert described["name"] == "temperance"
    assert "binary_tensor_data" in described["extensions"]
    for path in ("/v2/models/breast-cancer/ready", "/v2/models/breast-cancer/versions/1/ready"):
        assert (await client.get(path)).json() == {"name": "breast-cancer", "ready": True}


async def test_statistics_count_predicted_rows(client_of, publish_logits) -> None:
    async with client_of(publish_logits(("a", "b"))) as client:
        tensor = {"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [0.0] * 6}
        for _ in range(4):
            await client.post("/v2/models/logits/infer", json={"inputs": [tensor]})
        one, all_models = [
            (await client.get(path)).json()["model_stats"] for path in ("/v2/models/logits/stats", "/v2/models/stats")
        ]
        assert one == all_models
        assert (one[0]["inference_count"], one[0]["execution_count"]) == (12, 4)
        assert one[0]["inference_stats"]["success"]["ns"] > 0
