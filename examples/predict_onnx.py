"""Labels images with an exported model, without cnncodes or torch: python predict_onnx.py model.onnx photo.jpg …"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
for path in sys.argv[2:]:
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    label, probabilities = session.run(["label", "probabilities"], {"images": pixels[None]})
    print(path, classes[label[0]], f"{probabilities[0].max():.4f}", sep="\t")
