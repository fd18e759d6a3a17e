// Load the SavedModel by its tag, as TensorFlow Serving does, and run both signatures:
//   load_saved_model saved_model/1 height width noisy.f32 denoised.f32 noisy.png denoised.png
// .f32 files hold height × width floats in [0, 1]. tests/test_elsewhere.py shows how to compile it.
#include <fstream>
#include <iostream>
#include <iterator>

#include "tensorflow/cc/saved_model/loader.h"

namespace tf = tensorflow;

std::string Read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Write(const char* path, const void* bytes, size_t size) {
  std::ofstream(path, std::ios::binary).write(static_cast<const char*>(bytes), size);
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << std::endl;
  std::exit(1);
}

tf::Tensor Run(const tf::SavedModelBundle& bundle, const std::string& name, const tf::Tensor& input) {
  const auto& signature = bundle.meta_graph_def.signature_def().at(name);
  std::vector<tf::Tensor> outputs;
  Check(bundle.session->Run({{signature.inputs().begin()->second.name(), input}},
                            {signature.outputs().begin()->second.name()}, {}, &outputs));
  return outputs[0];
}

int main(int argc, char** argv) {
  tf::SavedModelBundle bundle;
  Check(tf::LoadSavedModel(tf::SessionOptions(), tf::RunOptions(), argv[1], {"serve"}, &bundle));

  tf::Tensor noisy(tf::DT_FLOAT, {1, std::stoi(argv[2]), std::stoi(argv[3]), 1});
  const std::string floats = Read(argv[4]);
  std::memcpy(noisy.data(), floats.data(), floats.size());
  const tf::Tensor denoised = Run(bundle, "serving_default", noisy);
  Write(argv[5], denoised.data(), floats.size());

  tf::Tensor images(tf::DT_STRING, {1});
  images.vec<tf::tstring>()(0) = Read(argv[6]);
  const tf::tstring png = Run(bundle, "denoise_image", images).vec<tf::tstring>()(0);
  Write(argv[7], png.data(), png.size());
}
