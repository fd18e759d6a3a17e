"""A static web page with a denoiser, which runs in the browser with onnxruntime-web."""
