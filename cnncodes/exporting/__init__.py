"""A model as one ONNX file that runs anywhere: from the pixels of images to what `predict` says of them.

`export` is the verb. A `graph` is written operator by operator: `geometry` makes squares of pixels of any size, as
`Preprocessing` does; `network` adds the network, cut at its layers, with its pooling; `answers` turns codes
into decision values, probabilities and novelty. `parity` compares the file with `predict` before it gets its name, by a
`session` of onnxruntime. For int8, `quantization` comes between network and answers, and fits the probe again.
"""
