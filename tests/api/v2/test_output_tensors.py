"""What models of every task answer."""

from tests.api.v2.bodies import request_of


async def test_classification_names_the_likeliest_classes(infer, rows) -> None:
    requested = [{"name": "probabilities", "parameters": {"classification": 1}}]
    outputs, _ = await infer(request_of(rows, outputs=requested))
    plain, _ = await infer(request_of(rows))
    assert outputs["probabilities"]["datatype"] == "BYTES"
    assert outputs["probabilities"]["shape"] == [5, 1]
    for entry, label in zip(outputs["probabilities"]["data"], plain["label"]["data"], strict=True):
        value, index, name = entry.split(":")
        assert (name, index) == (label, str(["benign", "malignant"].index(label)))
        assert float(value) > 0.5


async def test_what_an_uncalibrated_model_cannot_know_is_no_output_of_it(client_of, publish_logits) -> None:
    async with client_of(publish_logits(("a", "b", "c"))) as client:
        described = (await client.get("/v2/models/logits")).json()
        names = [entry["name"] for entry in described["outputs"]]
        assert names == ["ood_score", "logits", "label", "probabilities", "prediction_id"]
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.0, 1.0, 2.0]}
        refused = await client.post(
            "/v2/models/logits/infer", json={"inputs": [tensor], "outputs": [{"name": "p_value"}]}
        )
        assert refused.status_code == 422
        answer = await client.post("/v2/models/logits/infer", json={"inputs": [tensor]})
        assert [output["name"] for output in answer.json()["outputs"]] == names
