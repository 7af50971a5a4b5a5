// Element by element: sums, products, reductions, scaling, conversion.
#include <cmath>
#include <limits>
#include <vector>

#include "devices/cpu/libraries/cudnn/values.h"

namespace avec::cpu_libraries::cudnn {

namespace {

template <class C>
C smaller(C a, C b, Nan nan) {
  if (std::isnan(a) || std::isnan(b)) {
    if (nan == Nan::kPropagate) return std::numeric_limits<C>::quiet_NaN();
    return std::isnan(a) ? b : a;
  }
  return a < b ? a : b;
}

template <class C>
C operated(const OpTensor& operation, C a, C b) {
  switch (operation.op) {
    case Op::kAdd:
      return a + b;
    case Op::kMul:
      return a * b;
    case Op::kMin:
      return smaller(a, b, operation.nan);
    case Op::kMax:
      return -smaller(-a, -b, operation.nan);
    case Op::kSqrt:
      return std::sqrt(a);
    case Op::kNot:
      return 1 - a;
  }
  return a;
}

bool of_one_width(const Layout& a, const Layout& b) {
  return (a.type == Type::kDouble) == (b.type == Type::kDouble);
}

/// A reduction as it goes over its elements. `at` is where the minimum or maximum was found.
struct Reduction {
  const ReduceTensor& reduce;
  double value = 0;
  std::uint32_t at = 0;
  std::int64_t seen = 0;

  void take(double element, std::uint32_t index) {
    const bool first = seen++ == 0;
    switch (reduce.op) {
      case Reduce::kAdd:
      case Reduce::kAverage:
        value += element;
        break;
      case Reduce::kNorm1:
        value += std::fabs(element);
        break;
      case Reduce::kNorm2:
        value += element * element;
        break;
      case Reduce::kMul:
        value = first ? element : value * element;
        break;
      case Reduce::kMulNoZeros:
        value = (first ? 1 : value) * (element == 0 ? 1 : element);
        break;
      case Reduce::kMin:
        extreme(element, index, first, element < value);
        break;
      case Reduce::kMax:
        extreme(element, index, first, element > value);
        break;
      case Reduce::kAmax:
        extreme(std::fabs(element), index, first, std::fabs(element) > value);
        break;
    }
  }
  void extreme(double element, std::uint32_t index, bool first, bool better) {
    if (!first && std::isnan(value))
      better = reduce.nan == Nan::kNotPropagate && !std::isnan(element);
    else if (!first && std::isnan(element))
      better = reduce.nan == Nan::kPropagate;
    if (!first && !better) return;
    value = element;
    at = index;
  }
  [[nodiscard]] double result() const {
    if (reduce.op == Reduce::kAverage) return value / static_cast<double>(seen);
    return reduce.op == Reduce::kNorm2 ? std::sqrt(value) : value;
  }
};

bool finds_extreme(Reduce op) { return op == Reduce::kMin || op == Reduce::kMax || op == Reduce::kAmax; }

bool gives_indices(const ReduceTensor& reduce) {
  return reduce.indices == Indices::kFlattened && finds_extreme(reduce.op);
}

/// The two nested iterations of a reduction: over c's elements, and over those of a that go into one of them.
struct Nest {
  Layout outer, inner;  // of packed a: dimensions that are kept, and that are reduced

  Nest(const Layout& a, const Layout& c) {
    Layout packed = a;
    std::int64_t stride = 1;
    for (int d = a.count - 1; d >= 0; --d) {
      packed.strides[d] = stride;
      stride *= a.dims[d];
    }
    outer = inner = packed;
    for (int d = 0; d < a.count; ++d) (c.dims[d] == a.dims[d] ? inner : outer).dims[d] = 1;
  }
  static std::int64_t offset(const Layout& layout, std::int64_t index) {
    std::int64_t offset = 0;
    for (int d = layout.count - 1; d >= 0; --d) {
      offset += index % layout.dims[d] * layout.strides[d];
      index /= layout.dims[d];
    }
    return offset;
  }
};

void reduce_tensor(const ReduceTensor& reduce, std::uint32_t* indices, double alpha, const Tensor& a_desc,
                   const void* a, double beta, const Tensor& c_desc, void* c) {
  computed_in(a_desc.type, [&]<class C>(C) {
    const Values<C> from(a_desc, a);
    const Nest nest(a_desc, c_desc);
    const std::int64_t kept = nest.outer.elements(), reduced = nest.inner.elements();
    std::vector<C> result(static_cast<std::size_t>(kept));
    for (std::int64_t i = 0; i < kept; ++i) {
      const std::int64_t first = Nest::offset(nest.outer, i);
      Reduction reduction{reduce};
      for (std::int64_t j = 0; j < reduced; ++j)
        reduction.take(from[first + Nest::offset(nest.inner, j)], static_cast<std::uint32_t>(j));
      result[i] = static_cast<C>(reduction.result());
      if (indices != nullptr) indices[i] = reduction.at;
    }
    blend(c_desc, c, result.data(), alpha, beta);
  });
}

}  // namespace

extern "C" {

Status cudnnTransformTensor(Handle* handle, const void* alpha, const Tensor* x_desc, const void* x,
                            const void* beta, const Tensor* y_desc, void* y) {
  if (any_null(handle, alpha, x_desc, x, beta, y_desc, y)) return bad_param("a pointer is NULL");
  if (!x_desc->same_shape(*y_desc) || !of_one_width(*x_desc, *y_desc))
    return bad_param("the tensors differ in shape, or one of them alone is of doubles");
  const double a = scalar(alpha, x_desc->type), b = scalar(beta, x_desc->type);
  return submit(handle, [=, x_desc = *x_desc, y_desc = *y_desc] {
    computed_in(x_desc.type, [&]<class C>(C) { blend(y_desc, y, Values<C>(x_desc, x).data(), a, b); });
  });
}

Status cudnnAddTensor(Handle* handle, const void* alpha, const Tensor* a_desc, const void* a,
                      const void* beta, const Tensor* c_desc, void* c) {
  if (any_null(handle, alpha, a_desc, a, beta, c_desc, c)) return bad_param("a pointer is NULL");
  if (!a_desc->broadcasts_to(*c_desc) || !of_one_width(*a_desc, *c_desc))
    return bad_param("a dimension of A is neither that of C nor 1, or one of them alone is of doubles");
  const double factor = scalar(alpha, c_desc->type), b = scalar(beta, c_desc->type);
  return submit(handle, [=, a_desc = a_desc->broadcast(*c_desc), c_desc = *c_desc] {
    computed_in(c_desc.type, [&]<class C>(C) { blend(c_desc, c, Values<C>(a_desc, a).data(), factor, b); });
  });
}

Status cudnnScaleTensor(Handle* handle, const Tensor* y_desc, void* y, const void* alpha) {
  if (any_null(handle, y_desc, y, alpha)) return bad_param("a pointer is NULL");
  const double a = scalar(alpha, y_desc->type);
  return submit(handle, [=, y_desc = *y_desc] {
    computed_in(y_desc.type, [&]<class C>(C) { blend(y_desc, y, Values<C>::copy(y_desc, y).data(), a, 0); });
  });
}

Status cudnnSetTensor(Handle* handle, const Tensor* y_desc, void* y, const void* value) {
  if (any_null(handle, y_desc, y, value)) return bad_param("a pointer is NULL");
  Layout one = *y_desc;
  one.dims.fill(1);
  const double element = Values<double>::copy(one, value).front();  // of the tensor's own type
  return submit(handle, [=, y_desc = *y_desc] {
    computed_in(y_desc.type, [&]<class C>(C) {
      const std::vector<C> values(static_cast<std::size_t>(y_desc.elements()), static_cast<C>(element));
      blend(y_desc, y, values.data(), 1, 0);
    });
  });
}

Status cudnnOpTensor(Handle* handle, const OpTensor* operation, const void* alpha1, const Tensor* a_desc,
                     const void* a, const void* alpha2, const Tensor* b_desc, const void* b, const void* beta,
                     const Tensor* c_desc, void* c) {
  if (any_null(handle, operation, alpha1, a_desc, a, beta, c_desc, c)) return bad_param("a pointer is NULL");
  const bool unary = operation->op == Op::kSqrt || operation->op == Op::kNot;
  if (!unary && any_null(alpha2, b_desc, b)) return bad_param("a pointer is NULL");
  if (!a_desc->same_shape(*c_desc) || (!unary && !b_desc->broadcasts_to(*c_desc)))
    return bad_param("A is not of the shape of C, or a dimension of B is neither that of C nor 1");
  if (!of_one_width(*a_desc, *c_desc) || (!unary && !of_one_width(*b_desc, *c_desc)) ||
      (c_desc->type == Type::kDouble) != (operation->compute == Type::kDouble))
    return bad_param("the types of the tensors and of the operation do not go together");
  const double factor1 = scalar(alpha1, c_desc->type), factor2 = unary ? 0 : scalar(alpha2, c_desc->type);
  const double old = scalar(beta, c_desc->type);
  return submit(handle, [=, operation = *operation, a_desc = *a_desc, c_desc = *c_desc,
                         b_desc = unary ? Layout() : b_desc->broadcast(*c_desc)] {
    computed_in(c_desc.type, [&]<class C>(C) {
      std::vector<C> result = Values<C>::copy(a_desc, a);
      const std::vector<C> second = unary ? std::vector<C>() : Values<C>::copy(b_desc, b);
      for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = operated(operation, static_cast<C>(factor1) * result[i],
                             unary ? C{0} : static_cast<C>(factor2) * second[i]);
      blend(c_desc, c, result.data(), 1, old);
    });
  });
}

Status cudnnGetReductionIndicesSize(Handle* handle, const ReduceTensor* reduce, const Tensor* a,
                                    const Tensor* c, std::size_t* bytes) {
  if (any_null(handle, reduce, a, c, bytes)) return bad_param("a pointer is NULL");
  *bytes = gives_indices(*reduce) ? static_cast<std::size_t>(c->elements()) * sizeof(std::uint32_t) : 0;
  return Status::kSuccess;
}

Status cudnnGetReductionWorkspaceSize(Handle* handle, const ReduceTensor* reduce, const Tensor* a,
                                      const Tensor* c, std::size_t* bytes) {
  if (any_null(handle, reduce, a, c, bytes)) return bad_param("a pointer is NULL");
  *bytes = 0;
  return Status::kSuccess;
}

Status cudnnReduceTensor(Handle* handle, const ReduceTensor* reduce, void* indices, std::size_t indices_bytes,
                         void*, std::size_t, const void* alpha, const Tensor* a_desc, const void* a,
                         const void* beta, const Tensor* c_desc, void* c) {
  if (any_null(handle, reduce, alpha, a_desc, a, beta, c_desc, c)) return bad_param("a pointer is NULL");
  if (!c_desc->broadcasts_to(*a_desc) || !of_one_width(*a_desc, *c_desc))
    return bad_param("a dimension of C is neither that of A nor 1, or one of them alone is of doubles");
  const bool wanted = gives_indices(*reduce);
  if (wanted && reduce->index_type != IndexType::k32) return not_supported("indices have 32 bits");
  if (wanted && (indices == nullptr || indices_bytes < sizeof(std::uint32_t) * c_desc->elements()))
    return bad_param("there is no room for the indices");
  const double factor = scalar(alpha, a_desc->type), old = scalar(beta, a_desc->type);
  return submit(handle, [=, reduce = *reduce, a_desc = *a_desc, c_desc = *c_desc] {
    reduce_tensor(reduce, wanted ? static_cast<std::uint32_t*>(indices) : nullptr, factor, a_desc, a, old,
                  c_desc, c);
  });
}

}  // extern "C"

}  // namespace avec::cpu_libraries::cudnn
