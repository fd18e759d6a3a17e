"""A denoiser as a static web page: it runs in the browser, by onnxruntime-web."""
