#include "io/unpickler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

static_assert(std::endian::native == std::endian::little, "operands are little-endian");

// Values refer to each other by their place in the machine's list of values, so that neither a
// circle nor a deep nest of them can do harm.
using Ref = uint32_t;

struct None {};
struct Tuple {
  std::vector<Ref> items;
};
struct Dict {  // or an OrderedDict
  std::vector<std::pair<Ref, Ref>> items;
};
struct Storage {
  at::Tensor elements;  // 1-dimensional
};
enum class Function { kOrderedDict, kSize, kRebuildTensor, kRebuildParameter };
using StorageType = at::ScalarType;
using Global = std::variant<Function, StorageType>;
using Value =
    std::variant<None, bool, int64_t, std::string, Tuple, Dict, Global, Storage, at::Tensor>;

const std::map<std::string, Global>& globals() {
  static const std::map<std::string, Global> known{
      {"collections.OrderedDict", Function::kOrderedDict},
      {"torch.Size", Function::kSize},
      {"torch._utils._rebuild_tensor_v2", Function::kRebuildTensor},
      {"torch._utils._rebuild_parameter", Function::kRebuildParameter},
      {"torch.DoubleStorage", at::kDouble},
      {"torch.FloatStorage", at::kFloat},
      {"torch.HalfStorage", at::kHalf},
      {"torch.BFloat16Storage", at::kBFloat16},
      {"torch.LongStorage", at::kLong},
      {"torch.IntStorage", at::kInt},
      {"torch.ShortStorage", at::kShort},
      {"torch.CharStorage", at::kChar},
      {"torch.ByteStorage", at::kByte},
      {"torch.BoolStorage", at::kBool},
  };
  return known;
}

// storage[offset:] with these sizes and strides, if that lies within the storage.
at::Tensor strided(const at::Tensor& storage, int64_t offset, const std::vector<int64_t>& sizes,
                   const std::vector<int64_t>& strides, const std::string& where) {
  constexpr size_t kMaxDimensions = 64;
  check(sizes.size() == strides.size() && sizes.size() <= kMaxDimensions, where,
        " is damaged: a tensor has ", sizes.size(), " sizes and ", strides.size(), " strides");
  int64_t count = 1, last = offset;
  bool fits = offset >= 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    int64_t reach = 0;
    fits = fits && sizes[i] >= 0 && strides[i] >= 0 &&
           !__builtin_mul_overflow(count, sizes[i], &count) &&
           !__builtin_mul_overflow(std::max<int64_t>(sizes[i] - 1, 0), strides[i], &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  fits = fits && (count == 0 ? offset <= storage.numel() : last < storage.numel());
  check(fits, where, ": a tensor (sizes ", at::IntArrayRef(sizes), ", strides ",
        at::IntArrayRef(strides), ", offset ", offset, ") leads outside its storage of ",
        storage.numel(), " elements");
  return storage.as_strided(sizes, strides, offset);
}

// The instructions that torch.save's pickles of tensor dictionaries consist of (protocol 2), as
// CPython's Lib/pickle.py names and describes them.
enum Op : uint8_t {
  kProto = 0x80,
  kStop = '.',
  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kGlobal = 'c',
  kBinPersId = 'Q',
  kMark = '(',
  kTuple = 't',
  kEmptyTuple = ')',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kReduce = 'R',
  kBuild = 'b',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kBinGet = 'h',
  kLongBinGet = 'j',
};

class Machine {
 public:
  Machine(std::string_view program, const LoadStorage& load, const std::string& where)
      : program_(program), load_(load), where_(where) {}

  std::map<std::string, at::Tensor> run();

 private:
  const Dict& state_dict(Ref top);
  bool step();  // false at the end
  bool push_constant(Op op);
  bool push_collection(Op op);
  bool use_memo(Op op);

  void set_items(const std::vector<Ref>& keys_and_values);
  void persistent_load();
  void reduce();
  void build();

  std::string_view bytes(size_t size);
  template <class T>
  T operand();
  int64_t long_operand();
  Global global();

  void push(Value value);
  Ref pop();
  std::vector<Ref> pop_many(size_t count);
  std::vector<Ref> pop_to_mark();
  template <class T>
  T& get(Ref ref, const char* what);
  template <class T>
  T& argument(const Tuple& arguments, size_t index, const char* what);
  std::vector<int64_t> integers(const Tuple& tuple);

  std::string_view program_;  // what is left of it
  const LoadStorage& load_;
  const std::string& where_;
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint32_t, Ref> memo_;
};

std::string_view Machine::bytes(size_t size) {
  check(size <= program_.size(), where_, " is damaged: it ends too early");
  const std::string_view bytes = program_.substr(0, size);
  program_.remove_prefix(size);
  return bytes;
}

template <class T>
T Machine::operand() {
  T value;
  std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
  return value;
}

int64_t Machine::long_operand() {
  const std::string_view digits = bytes(operand<uint8_t>());
  check(digits.size() <= 8, where_, ": an integer of ", digits.size(), " bytes is too large");
  int64_t value = !digits.empty() && (digits.back() & 0x80) ? -1 : 0;
  std::memcpy(&value, digits.data(), digits.size());
  return value;
}

Global Machine::global() {
  std::string name[2];  // module and name, a line each
  for (std::string& part : name) {
    const size_t end = program_.find('\n');
    check(end != std::string_view::npos, where_, " is damaged: it ends too early");
    part = bytes(end);
    bytes(1);
  }
  const auto found = globals().find(name[0] + "." + name[1]);
  check(found != globals().end(), where_, " asks for ", name[0], ".", name[1],
        ", which no dictionary of tensors needs (nothing was executed)");
  return found->second;
}

void Machine::push(Value value) {
  stack_.push_back(static_cast<Ref>(values_.size()));
  values_.push_back(std::move(value));
}

Ref Machine::pop() { return pop_many(1)[0]; }

std::vector<Ref> Machine::pop_many(size_t count) {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  check(stack_.size() - floor >= count, where_, " is damaged: a value is missing");
  const std::vector<Ref> popped(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
  stack_.resize(stack_.size() - count);
  return popped;
}

std::vector<Ref> Machine::pop_to_mark() {
  check(!marks_.empty(), where_, " is damaged: a mark is missing");
  std::vector<Ref> popped = pop_many(stack_.size() - marks_.back());
  marks_.pop_back();
  return popped;
}

template <class T>
T& Machine::get(Ref ref, const char* what) {
  T* value = std::get_if<T>(&values_[ref]);
  check(value != nullptr, where_, " is damaged, or holds no dictionary of tensors: expected ",
        what);
  return *value;
}

template <class T>
T& Machine::argument(const Tuple& arguments, size_t index, const char* what) {
  check(index < arguments.items.size(), where_, " is damaged: a call lacks ", what);
  return get<T>(arguments.items[index], what);
}

std::vector<int64_t> Machine::integers(const Tuple& tuple) {
  std::vector<int64_t> integers;
  for (const Ref ref : tuple.items) integers.push_back(get<int64_t>(ref, "an integer"));
  return integers;
}

bool Machine::push_constant(Op op) {
  switch (op) {
    case kNone:
      push(None{});
      return true;
    case kNewTrue:
      push(true);
      return true;
    case kNewFalse:
      push(false);
      return true;
    case kBinInt:
      push(int64_t{operand<int32_t>()});
      return true;
    case kBinInt1:
      push(int64_t{operand<uint8_t>()});
      return true;
    case kBinInt2:
      push(int64_t{operand<uint16_t>()});
      return true;
    case kLong1:
      push(long_operand());
      return true;
    case kBinFloat:  // of what a trainer keeps beside the tensors, of no use here
      bytes(8);
      push(None{});
      return true;
    case kBinUnicode:
      push(std::string(bytes(operand<uint32_t>())));
      return true;
    case kGlobal:
      push(global());
      return true;
    default:
      return false;
  }
}

bool Machine::push_collection(Op op) {
  switch (op) {
    case kEmptyDict:
      push(Dict{});
      return true;
    case kEmptyTuple:
      push(Tuple{});
      return true;
    case kTuple1:
      push(Tuple{pop_many(1)});
      return true;
    case kTuple2:
      push(Tuple{pop_many(2)});
      return true;
    case kTuple3:
      push(Tuple{pop_many(3)});
      return true;
    case kTuple:
      push(Tuple{pop_to_mark()});
      return true;
    case kSetItem:
      set_items(pop_many(2));
      return true;
    case kSetItems:
      set_items(pop_to_mark());
      return true;
    default:
      return false;
  }
}

bool Machine::use_memo(Op op) {
  const bool put = op == kBinPut || op == kLongBinPut;
  if (!put && op != kBinGet && op != kLongBinGet) return false;
  const uint32_t key = op == kBinPut || op == kBinGet ? operand<uint8_t>() : operand<uint32_t>();
  if (put) {
    memo_[key] = pop();
    stack_.push_back(memo_[key]);
  } else {
    const auto found = memo_.find(key);
    check(found != memo_.end(), where_, " is damaged: value ", key, " was never kept");
    stack_.push_back(found->second);
  }
  return true;
}

void Machine::set_items(const std::vector<Ref>& keys_and_values) {
  const Ref dict = pop();
  stack_.push_back(dict);
  check(keys_and_values.size() % 2 == 0, where_, " is damaged: a key without a value");
  auto& items = get<Dict>(dict, "a dictionary").items;
  for (size_t i = 0; i < keys_and_values.size(); i += 2)
    items.emplace_back(keys_and_values[i], keys_and_values[i + 1]);
}

// ("storage", type, key, device, elements)
void Machine::persistent_load() {
  const Tuple& id = get<Tuple>(pop(), "the id of a storage");
  const Global type = argument<Global>(id, 1, "a storage's type");
  check(argument<std::string>(id, 0, "the word 'storage'") == "storage" &&
            std::holds_alternative<StorageType>(type),
        where_, " is damaged: expected the id of a storage");
  push(Storage{load_(std::get<StorageType>(type), argument<std::string>(id, 2, "a storage's key"),
                     argument<int64_t>(id, 4, "a storage's size"))});
}

void Machine::reduce() {
  const Tuple& arguments = get<Tuple>(pop(), "the arguments of a call");
  const auto* function = std::get_if<Function>(&get<Global>(pop(), "a function"));
  check(function != nullptr, where_, " is damaged: it calls a storage type");
  switch (*function) {
    case Function::kOrderedDict:
      check(arguments.items.empty(), where_, ": expected OrderedDict() without arguments");
      return push(Dict{});
    case Function::kSize:
      argument<Tuple>(arguments, 0, "sizes");
      return stack_.push_back(arguments.items[0]);
    case Function::kRebuildTensor:  // storage, offset, sizes, strides, requires_grad, hooks
      return push(strided(argument<Storage>(arguments, 0, "a storage").elements,
                          argument<int64_t>(arguments, 1, "an offset"),
                          integers(argument<Tuple>(arguments, 2, "sizes")),
                          integers(argument<Tuple>(arguments, 3, "strides")), where_));
    case Function::kRebuildParameter:  // tensor, requires_grad, hooks
      return push(argument<at::Tensor>(arguments, 0, "a tensor"));
  }
}

// Attributes of an OrderedDict: `_metadata` of a state dict, of no use here.
void Machine::build() {
  pop();
  const Ref object = pop();
  get<Dict>(object, "a dictionary");
  stack_.push_back(object);
}

bool Machine::step() {
  const Op op{operand<uint8_t>()};
  if (push_constant(op) || push_collection(op) || use_memo(op)) return true;
  switch (op) {
    case kProto: {
      const int protocol = operand<uint8_t>();
      check(protocol == 2, where_, ": expected pickle protocol 2, torch.save's default, got ",
            protocol);
      return true;
    }
    case kMark:
      marks_.push_back(stack_.size());
      return true;
    case kBinPersId:
      persistent_load();
      return true;
    case kReduce:
      reduce();
      return true;
    case kBuild:
      build();
      return true;
    case kStop:
      return false;
    default:
      fail(where_, " is damaged, or holds no dictionary of tensors: instruction ", int{op},
           " is not expected");
  }
}

// `top`, or the dictionary of tensors that a trainer has put into it beside what else it keeps.
const Dict& Machine::state_dict(Ref top) {
  const Dict& dict = get<Dict>(top, "a dictionary");
  for (const char* name : {"state_dict", "model_state_dict", "model", "module"})
    for (const auto& [key, value] : dict.items) {
      const auto* text = std::get_if<std::string>(&values_[key]);
      const auto* inner = std::get_if<Dict>(&values_[value]);
      if (text && inner && *text == name) return *inner;
    }
  return dict;
}

std::map<std::string, at::Tensor> Machine::run() {
  while (step()) {
  }
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [key, value] : state_dict(pop()).items) {
    const std::string& name = get<std::string>(key, "a dictionary whose keys are strings");
    const auto* tensor = std::get_if<at::Tensor>(&values_[value]);
    check(tensor != nullptr, where_, ": '", name,
          "' is no tensor; expected what torch.save(model.state_dict(), FILE) writes");
    tensors.insert_or_assign(name, *tensor);
  }
  return tensors;
}

}  // namespace

std::map<std::string, at::Tensor> unpickle(std::string_view program, const LoadStorage& load,
                                           const std::string& where) {
  return Machine(program, load, where).run();
}

}  // namespace quench
