// Labels images with an exported model from Node.js: npm install onnxruntime-node sharp
// cnncodes info model.safetensors --json | jq .classes > classes.json
// node predict_onnx.cjs model.onnx classes.json photo.jpg …
const fs = require("fs");
const ort = require("onnxruntime-node");
const sharp = require("sharp");

async function main([file, classesFile, ...paths]) {
  const session = await ort.InferenceSession.create(file);
  const classes = JSON.parse(fs.readFileSync(classesFile, "utf8"));
  for (const path of paths) {
    const image = sharp(path).rotate().toColourspace("srgb").removeAlpha().raw(); // upright, RGB
    const { data, info } = await image.toBuffer({ resolveWithObject: true });
    const images = new ort.Tensor("uint8", new Uint8Array(data), [1, info.height, info.width, 3]);
    const { label, probabilities } = await session.run({ images }, ["label", "probabilities"]);
    console.log([path, classes[Number(label.data[0])], Math.max(...probabilities.data).toFixed(4)].join("\t"));
  }
}

main(process.argv.slice(2));
