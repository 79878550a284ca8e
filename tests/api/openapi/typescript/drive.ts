// Type-checked against the generated client, then run against a real server: BASE_URL and ROWS come from the test.
import { client } from "./generated/client.gen";
import * as sdk from "./generated";

const rows: number[][] = JSON.parse(process.env.ROWS ?? "[]");
const path = { name: "breast-cancer" };
client.setConfig({ baseUrl: process.env.BASE_URL });

async function main(): Promise<void> {
  const decided = await sdk.decide({ path, body: { instances: rows, parameters: { layout: "rows" } } });
  const wrong = await sdk.decide({ path, body: { instances: [[1]] } });
  const described = await sdk.describeModel({ path });
  const inferred = await sdk.infer({
    path,
    body: { inputs: [{ name: "X", shape: [rows.length, 30], datatype: "FP32", data: rows }] },
  });
  const answer = decided.data as sdk.MulticlassDecideRows;
  const tensors = inferred.data as sdk.InferenceResponse;
  const actions: (string | undefined)[] = answer.predictions.map((row) => row.decision?.action);
  const problem = wrong.error as sdk.Problem;
  const model = described.data as sdk.ModelDescription; // it is served, so it is no RefusedModel
  console.log(
    JSON.stringify({
      actions,
      pointer: problem.errors?.[0]?.pointer,
      classes: model.classes,
      outputs: tensors.outputs.map((output) => output.name),
    }),
  );
}

main();
