"""Denoise an image file with onnxruntime: `python denoise_onnx.py model.onnx in.png out.png`.

It needs numpy, onnxruntime and Pillow, but neither TensorFlow nor keras_dae. It is for models of grey images, and takes
images of any size.
"""

import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime would report to its maker; it reads this during the import
import numpy as np
import onnxruntime
from PIL import Image

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
noisy = np.asarray(Image.open(source).convert("L"), np.float32)[None, :, :, None] / 255
(denoised,) = session.run(["denoised"], {"noisy": noisy})
Image.fromarray(np.uint8(np.rint(255 * denoised[0, :, :, 0]))).save(target)
