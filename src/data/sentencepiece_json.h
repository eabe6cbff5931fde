// sentencepiece models as the tokenizer.json of Hugging Face's `tokenizers`, and back.
//
// `tokenizers` gives sentencepiece's ids but for
// - text that spells a special token, a byte piece (<0x0A>) or the space symbol U+2581: it is that
//   token there, text here;
// - graphemes of several characters of which the model normalises one, as a ligature with an
//   accent, a no-break space with a combining mark: `tokenizers` normalises graphemes below six
//   bytes as a whole, by the first rule that fits, and others one character at a time;
// - unigram models where two segmentations score alike (".." and "." in either order):
//   sentencepiece sums in float32, `tokenizers` in float64. See round_scores().
#pragma once

#include <optional>
#include <string>

#include "base/json.h"

namespace quench {

// The tokenizer.json of a serialized model. `prefix` and `suffix` enclose a document, empty:
// nothing does. nullopt where `tokenizers` has no equal: word and character models, unused and
// user-defined pieces, white space as suffix or not escaped.
std::optional<Json> to_tokenizer_json(const std::string& model, const std::string& prefix,
                                      const std::string& suffix);

// The model that to_tokenizer_json() made `json` from, as far as it shows there. Throws Error,
// which names `file`, when json has not its form.
std::string from_tokenizer_json(const nlohmann::json& json, const std::string& file);

// Whether the library can read `model` without reading beyond its end: it follows the offsets of
// the normalization rules, and lists of the pieces that begin a text, without looking at sizes.
// Pieces that are not UTF-8 are not sound either.
bool is_sound(const std::string& model);

// Rounds the scores to multiples of 2^-8, of which float32 sums up to 65536 (some 8000 tokens) are
// exact: then ties are ties, and every implementation breaks them alike.
void round_scores(std::string& model);

}  // namespace quench
