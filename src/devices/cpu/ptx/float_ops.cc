// f32 and f64 arithmetic ("PTX ISA", 9.7.3).
#include <cmath>

#include "devices/cpu/ptx/float_math.h"
#include "devices/cpu/ptx/lanes.h"
#include "devices/cpu/ptx/rounding.h"

namespace avec::cpu::ptx {
namespace {

struct Add {
  template <class T>
  static T f(T a, T b) { return a + b; }
};
struct Subtract {
  template <class T>
  static T f(T a, T b) { return a - b; }
};
struct Multiply {
  template <class T>
  static T f(T a, T b) { return a * b; }
};
struct Divide {
  template <class T>
  static T f(T a, T b) { return a / b; }
};
struct FusedMultiplyAdd {
  template <class T>
  static T f(T a, T b, T c) { return std::fma(a, b, c); }
};
struct Reciprocal {
  template <class T>
  static T f(T a) { return T{1} / a; }
};
struct SquareRoot {
  template <class T>
  static T f(T a) { return std::sqrt(a); }
};
struct ReciprocalSquareRoot {
  static float f(float a) { return static_cast<float>(1.0 / std::sqrt(double{a})); }
  static double f(double a) { return 1.0 / std::sqrt(a); }
};
struct Sine {
  static float f(float a) { return static_cast<float>(std::sin(double{a})); }
};
struct Cosine {
  static float f(float a) { return static_cast<float>(std::cos(double{a})); }
};
struct BinaryLogarithm {
  static float f(float a) { return std::log2(a); }
};
struct BinaryPower {
  static float f(float a) { return std::exp2(a); }
};
struct HyperbolicTangent {
  static float f(float a) { return std::tanh(a); }
};
struct Minimum {
  template <class T>
  static T f(T a, T b) { return minimum(a, b); }
};
struct Maximum {
  template <class T>
  static T f(T a, T b) { return maximum(a, b); }
};
/// .NaN
template <class F>
struct Strict {
  template <class T>
  static T f(T a, T b) { return a != a ? a : b != b ? b : F::f(a, b); }
};
/// .xorsign.abs
template <class F>
struct XorSign {
  template <class T>
  static T f(T a, T b) {
    const T magnitude = F::f(std::fabs(a), std::fabs(b));
    return std::copysign(magnitude, std::signbit(a) != std::signbit(b) ? T{-1} : T{1});
  }
};

/// The operation with .ftz and .sat around it.
template <class F, class T, bool kFtz, bool kSat>
struct Shaped {
  template <class... A>
  static T f(A... a) {
    const T result = flush<kFtz>(canonical(F::f(flush<kFtz>(a)...)));
    return kSat ? saturated(result) : result;
  }
};

template <class F, class T, bool kFtz, bool kSat, int kSources>
constexpr Handler shaped() {
  using S = Shaped<F, T, kFtz, kSat>;
  if constexpr (kSources == 1) return unary<S, T, T>;
  else if constexpr (kSources == 2) return binary<S, T, T, T>;
  else return ternary<S, T, T, T, T>;
}

/// Any rounding but to nearest: mode; flag is .ftz, flag2 .sat.
template <class F, class T, int kSources>
void directed(Warp& w, const Instruction& in, Mask mask) {
  T* d = w.out<T>(in.d);
  const T* a = w.in<T>(in.a);
  const T* b = kSources > 1 ? w.in<T>(in.b) : a;
  const T* c = kSources > 2 ? w.in<T>(in.c) : a;
  const auto in_flush = [&](T x) { return in.flag ? flush<true>(x) : x; };
  const RoundingScope scope(static_cast<Rounding>(in.mode));
  for_lanes(mask, [&](unsigned i) {
    T x = pinned(in_flush(a[i]));
    if constexpr (kSources == 1) x = F::f(x);
    else if constexpr (kSources == 2) x = F::f(x, pinned(in_flush(b[i])));
    else x = F::f(x, pinned(in_flush(b[i])), pinned(in_flush(c[i])));
    x = in_flush(canonical(pinned(x)));
    d[i] = in.flag2 ? saturated(x) : x;
  });
}

template <class F, int kSources>
void arithmetic(Decoder& d, bool approximate_allowed) {
  if (approximate_allowed) {
    d.take("approx");
    d.take("full");
  }
  const Rounding rounding = d.take_rounding();
  const bool ftz = d.take("ftz"), sat = d.take("sat");
  const Type type = d.need_type();
  if (d.peek_type() != Type::kNone) throw Unsupported{};  // mixed precision
  const bool f64 = type == Type::kF64;
  if (f64 && sat) d.mismatch();
  Handler run = nullptr;
  const bool is_directed = rounding == Rounding::kZero || rounding == Rounding::kDown || rounding == Rounding::kUp;
  if (is_directed) {
    run = f64 ? directed<F, double, kSources> : directed<F, float, kSources>;
  } else if (f64) {
    run = shaped<F, double, false, false, kSources>();
  } else {
    run = ftz ? (sat ? shaped<F, float, true, true, kSources>() : shaped<F, float, true, false, kSources>())
              : (sat ? shaped<F, float, false, true, kSources>() : shaped<F, float, false, false, kSources>());
  }
  Instruction* in = nullptr;
  if constexpr (kSources == 1) in = &d.emit_plain(run, type, {type});
  else if constexpr (kSources == 2) in = &d.emit_plain(run, type, {type, type});
  else in = &d.emit_plain(run, type, {type, type, type});
  in->mode = static_cast<std::uint8_t>(rounding);
  in->flag = ftz;
  in->flag2 = sat;
}

template <class F>
void approximate(Decoder& d) {
  d.take("approx");
  const bool ftz = d.take("ftz");
  if (d.need_type() != Type::kF32) d.mismatch();
  d.emit_plain(ftz ? shaped<F, float, true, false, 1>() : shaped<F, float, false, false, 1>(), Type::kF32, {Type::kF32});
}

/// The f64 approximations: only the upper word of the result is computed.
template <class F>
struct UpperWord {
  static double f(double a) {
    const double result = flush<true>(F::f(flush<true>(a)));
    return std::bit_cast<double>(std::bit_cast<u64>(result) & ~u64{0xFFFFFFFF});
  }
};

void reciprocal(Decoder& d) {
  if (d.peek_type() == Type::kF64 && d.take("approx")) {
    d.take("ftz");
    d.need_type();
    d.emit_plain(unary<UpperWord<Reciprocal>, double, double>, Type::kF64, {Type::kF64});
    return;
  }
  arithmetic<Reciprocal, 1>(d, true);
}

void reciprocal_square_root(Decoder& d) {
  d.take("approx");
  const bool ftz = d.take("ftz");
  const Type type = d.need_type();
  if (type == Type::kF64) {
    d.emit_plain(ftz ? unary<UpperWord<ReciprocalSquareRoot>, double, double>
                     : unary<ReciprocalSquareRoot, double, double>, type, {type});
    return;
  }
  using R = ReciprocalSquareRoot;
  d.emit_plain(ftz ? shaped<R, float, true, false, 1>() : shaped<R, float, false, false, 1>(), type, {type});
}

template <class F>
void minimum_or_maximum(Decoder& d) {
  const bool ftz = d.take("ftz"), strict = d.take("NaN"), xorsign = d.take("xorsign");
  if (xorsign) d.take("abs");
  const Type type = d.need_type();
  if (d.operand_count() == 4) throw Unsupported{};
  Handler run = nullptr;
  if (type == Type::kF64) {
    run = shaped<F, double, false, false, 2>();
  } else if (xorsign) {
    using X = XorSign<F>;
    run = ftz ? (strict ? shaped<Strict<X>, float, true, false, 2>() : shaped<X, float, true, false, 2>())
              : (strict ? shaped<Strict<X>, float, false, false, 2>() : shaped<X, float, false, false, 2>());
  } else {
    run = ftz ? (strict ? shaped<Strict<F>, float, true, false, 2>() : shaped<F, float, true, false, 2>())
              : (strict ? shaped<Strict<F>, float, false, false, 2>() : shaped<F, float, false, false, 2>());
  }
  d.emit_plain(run, type, {type, type});
}

// Signs are bits: NaNs keep theirs.
template <class T, bool kFtz>
struct Absolute {
  static T f(T a) { return std::fabs(flush<kFtz>(a)); }
};
template <class T, bool kFtz>
struct Negate {
  static T f(T a) { return -flush<kFtz>(a); }
};
template <class T>
struct CopySign {
  static T f(T a, T b) { return std::copysign(b, a); }
};

template <template <class, bool> class F>
void sign(Decoder& d) {
  const bool ftz = d.take("ftz");
  const Type type = d.need_type();
  const Handler run = type == Type::kF64 ? unary<F<double, false>, double, double>
                      : ftz              ? unary<F<float, true>, float, float>
                                         : unary<F<float, false>, float, float>;
  d.emit_plain(run, type, {type});
}

template <class T>
void test_property(Warp& w, const Instruction& in, Mask mask) {
  const T* a = w.in<T>(in.a);
  Mask result = 0;
  for_lanes(mask, [&](unsigned i) {
    bool is = false;
    switch (in.code) {
      case 0: is = std::isfinite(a[i]); break;
      case 1: is = std::isinf(a[i]); break;
      case 2: is = !std::isnan(a[i]); break;
      case 3: is = std::isnan(a[i]); break;
      case 4: is = std::isnormal(a[i]) || a[i] == 0; break;
      default: is = std::fpclassify(a[i]) == FP_SUBNORMAL;
    }
    result |= Mask{is} << i;
  });
  w.set_predicate(in.d, result, mask);
}

void test(Decoder& d) {
  Instruction in;
  const int property = d.take_any({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  if (property < 0) d.mismatch();
  in.code = static_cast<std::uint8_t>(property);
  const Type type = d.need_type();
  d.finish_modifiers();
  d.need_operands(2, 2);
  in.run = type == Type::kF64 ? test_property<double> : test_property<float>;
  in.a = d.source(d.operand(1), type);
  in.d = d.predicate_destination(d.operand(0));
  d.emit(in);
}

}  // namespace

void add_float_opcodes(Decoder::Table& t) {
  t["add"] = [](Decoder& d) { arithmetic<Add, 2>(d, false); };
  t["sub"] = [](Decoder& d) { arithmetic<Subtract, 2>(d, false); };
  t["mul"] = [](Decoder& d) { arithmetic<Multiply, 2>(d, false); };
  t["div"] = [](Decoder& d) { arithmetic<Divide, 2>(d, true); };
  t["fma"] = [](Decoder& d) { arithmetic<FusedMultiplyAdd, 3>(d, false); };
  t["mad"] = [](Decoder& d) { arithmetic<FusedMultiplyAdd, 3>(d, false); };
  t["sqrt"] = [](Decoder& d) { arithmetic<SquareRoot, 1>(d, true); };
  t["rcp"] = reciprocal;
  t["rsqrt"] = reciprocal_square_root;
  t["sin"] = approximate<Sine>;
  t["cos"] = approximate<Cosine>;
  t["lg2"] = approximate<BinaryLogarithm>;
  t["ex2"] = approximate<BinaryPower>;
  t["tanh"] = approximate<HyperbolicTangent>;
  t["min"] = minimum_or_maximum<Minimum>;
  t["max"] = minimum_or_maximum<Maximum>;
  t["abs"] = sign<Absolute>;
  t["neg"] = sign<Negate>;
  t["testp"] = test;
  t["copysign"] = [](Decoder& d) {
    const Type type = d.need_type();
    d.emit_plain(type == Type::kF64 ? binary<CopySign<double>, double, double, double> : binary<CopySign<float>, float, float, float>,
                 type, {type, type});
  };
}

}  // namespace avec::cpu::ptx
