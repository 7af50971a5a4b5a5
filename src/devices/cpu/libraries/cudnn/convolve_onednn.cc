// Convolutions with oneDNN, of version 2 (Debian 12) or 3 (Ubuntu 24.04). The only file that knows oneDNN.
#include "devices/cpu/libraries/cudnn/convolve.h"

#if AVEC_ONEDNN
#include <dnnl.hpp>
#include <unordered_map>

namespace avec::cpu_libraries::cudnn {

namespace {

using Memory = dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

Memory::dims used(const ConvolutionShape& shape, const ConvolutionShape::Sizes& sizes) {
  return {sizes.end() - shape.spatial, sizes.end()};
}

/// A tensor in row-major order: what the caller has, or what oneDNN chooses (`any`).
struct Operand {
  Memory::desc plain, any;

  static Operand of(Memory::dims dims) {
    Memory::dims strides(dims.size());
    Memory::dim stride = 1;
    for (std::size_t d = dims.size(); d-- > 0; stride *= dims[d]) strides[d] = stride;
    constexpr auto kFloat = Memory::data_type::f32;
    return {Memory::desc(dims, kFloat, strides), Memory::desc(dims, kFloat, Memory::format_tag::any)};
  }
};

struct Problem {
  Operand x, w, y;
  Memory::dims strides, dilations, pads;

  explicit Problem(const ConvolutionShape& s)
      : strides(used(s, s.stride)), dilations(used(s, s.dilation)), pads(used(s, s.pad)) {
    const auto dims = [&s](Memory::dims first, const ConvolutionShape::Sizes& sizes) {
      const Memory::dims more = used(s, sizes);
      first.insert(first.end(), more.begin(), more.end());
      return first;
    };
    x = Operand::of(dims({s.n, s.c}, s.in));
    y = Operand::of(dims({s.n, s.k}, s.out));
    w = Operand::of(s.groups == 1 ? dims({s.k, s.c}, s.kernel)
                                  : dims({s.groups, s.k / s.groups, s.c / s.groups}, s.kernel));
    for (auto& d : dilations) --d;  // oneDNN counts the elements between
  }
};

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

#if DNNL_VERSION_MAJOR >= 3
dnnl::convolution_forward::primitive_desc plan_forward(const Problem& p) {
  return {engine(),  dnnl::prop_kind::forward_training,
          kDirect,   p.x.any,
          p.w.any,   p.y.any,
          p.strides, p.dilations,
          p.pads,    p.pads};
}
dnnl::convolution_backward_data::primitive_desc plan_backward_data(const Problem& p) {
  return {engine(),  kDirect,     p.x.any, p.w.any, p.y.any,
          p.strides, p.dilations, p.pads,  p.pads,  plan_forward(p)};
}
dnnl::convolution_backward_weights::primitive_desc plan_backward_filter(const Problem& p) {
  return {engine(),  kDirect,     p.x.any, p.w.any, p.y.any,
          p.strides, p.dilations, p.pads,  p.pads,  plan_forward(p)};
}
#else
dnnl::convolution_forward::primitive_desc plan_forward(const Problem& p) {
  return {{dnnl::prop_kind::forward_training, kDirect, p.x.any, p.w.any, p.y.any, p.strides, p.dilations,
           p.pads, p.pads},
          engine()};
}
dnnl::convolution_backward_data::primitive_desc plan_backward_data(const Problem& p) {
  return {{kDirect, p.x.any, p.w.any, p.y.any, p.strides, p.dilations, p.pads, p.pads},
          engine(),
          plan_forward(p)};
}
dnnl::convolution_backward_weights::primitive_desc plan_backward_filter(const Problem& p) {
  return {{kDirect, p.x.any, p.w.any, p.y.any, p.strides, p.dilations, p.pads, p.pads},
          engine(),
          plan_forward(p)};
}
#endif

/// One execution: arrays of the caller are brought to oneDNN's forms and back where those differ.
class Run {
 public:
  Run() : stream_(engine()) {}

  void input(int name, const Memory::desc& plain, const Memory::desc& wanted, const float* data) {
    Memory given(plain, engine(), const_cast<float*>(data));  // only read
    if (plain != wanted) {
      Memory formed(wanted, engine());
      dnnl::reorder(given, formed).execute(stream_, given, formed);
      given = formed;
    }
    arguments_.emplace(name, given);
  }

  template <class Primitive>
  void into(int name, const Memory::desc& plain, const Memory::desc& wanted, float* data,
            const Primitive& primitive) {
    Memory result(plain, engine(), data);
    Memory made = plain == wanted ? result : Memory(wanted, engine());
    arguments_.emplace(name, made);
    primitive.execute(stream_, arguments_);
    if (plain != wanted) dnnl::reorder(made, result).execute(stream_, made, result);
    stream_.wait();
  }

 private:
  dnnl::stream stream_;
  std::unordered_map<int, Memory> arguments_;
};

template <class Work>
bool tried(Work work) noexcept {
  try {
    work();
    return true;
  } catch (...) {  // dnnl::error, or no memory: the loops are left
    return false;
  }
}

}  // namespace

bool OneDnn::forward(const ConvolutionShape& shape, const float* x, const float* w, float* y) noexcept {
  return tried([&] {
    const Problem p(shape);
    const auto plan = plan_forward(p);
    Run run;
    run.input(DNNL_ARG_SRC, p.x.plain, plan.src_desc(), x);
    run.input(DNNL_ARG_WEIGHTS, p.w.plain, plan.weights_desc(), w);
    run.into(DNNL_ARG_DST, p.y.plain, plan.dst_desc(), y, dnnl::convolution_forward(plan));
  });
}

bool OneDnn::backward_data(const ConvolutionShape& shape, const float* dy, const float* w,
                           float* dx) noexcept {
  return tried([&] {
    const Problem p(shape);
    const auto plan = plan_backward_data(p);
    Run run;
    run.input(DNNL_ARG_DIFF_DST, p.y.plain, plan.diff_dst_desc(), dy);
    run.input(DNNL_ARG_WEIGHTS, p.w.plain, plan.weights_desc(), w);
    run.into(DNNL_ARG_DIFF_SRC, p.x.plain, plan.diff_src_desc(), dx, dnnl::convolution_backward_data(plan));
  });
}

bool OneDnn::backward_filter(const ConvolutionShape& shape, const float* x, const float* dy,
                             float* dw) noexcept {
  return tried([&] {
    const Problem p(shape);
    const auto plan = plan_backward_filter(p);
    Run run;
    run.input(DNNL_ARG_SRC, p.x.plain, plan.src_desc(), x);
    run.input(DNNL_ARG_DIFF_DST, p.y.plain, plan.diff_dst_desc(), dy);
    run.into(DNNL_ARG_DIFF_WEIGHTS, p.w.plain, plan.diff_weights_desc(), dw,
             dnnl::convolution_backward_weights(plan));
  });
}

}  // namespace avec::cpu_libraries::cudnn

#else

namespace avec::cpu_libraries::cudnn {

bool OneDnn::forward(const ConvolutionShape&, const float*, const float*, float*) noexcept { return false; }
bool OneDnn::backward_data(const ConvolutionShape&, const float*, const float*, float*) noexcept {
  return false;
}
bool OneDnn::backward_filter(const ConvolutionShape&, const float*, const float*, float*) noexcept {
  return false;
}

}  // namespace avec::cpu_libraries::cudnn
#endif
