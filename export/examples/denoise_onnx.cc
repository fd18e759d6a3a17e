// Run model.onnx with onnxruntime's C++ API:
//   denoise_onnx model.onnx height width noisy.f32 denoised.f32
// .f32 files hold height × width floats in [0, 1].
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
  const std::array<int64_t, 4> shape = {1, std::stoi(argv[2]), std::stoi(argv[3]), 1};
  std::vector<float> noisy(shape[1] * shape[2]);
  std::ifstream(argv[4], std::ios::binary).read(reinterpret_cast<char*>(noisy.data()), noisy.size() * sizeof(float));

  setenv("ORT_DISABLE_TELEMETRY", "1", 1);  // else onnxruntime reports to its maker; it reads this when it starts
  Ort::Env env;
  Ort::Session session(env, argv[1], Ort::SessionOptions());
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto input = Ort::Value::CreateTensor<float>(memory, noisy.data(), noisy.size(), shape.data(), shape.size());
  const char *input_name = "noisy", *output_name = "denoised";
  const auto outputs = session.Run(Ort::RunOptions(), &input_name, &input, 1, &output_name, 1);

  const char* denoised = reinterpret_cast<const char*>(outputs[0].GetTensorData<float>());
  std::ofstream(argv[5], std::ios::binary).write(denoised, noisy.size() * sizeof(float));
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
