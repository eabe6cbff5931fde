#include "models/model.h"

#include "models/bert.h"
#include "models/opt.h"
#include "models/vit.h"

namespace quench {

const config::Registry<ModelConfig>& model_types() {
  static const config::Registry<ModelConfig> registry{{
      {"bert", "BERT for masked language modelling", [] { return std::make_shared<BertConfig>(); }},
      {"opt", "OPT for causal language modelling", [] { return std::make_shared<OptConfig>(); }},
      {"vit", "ViT for image classification", [] { return std::make_shared<VitConfig>(); }},
  }};
  return registry;
}

}  // namespace quench
