// One operation applied to all lanes of a mask. F::f computes one lane.
#pragma once

#include "devices/cpu/ptx/decoder.h"
#include "devices/cpu/ptx/warp.h"

// Registers of one instruction overlap only lane by lane.
#if defined(__clang__)
#define AVEC_EACH_LANE _Pragma("clang loop vectorize(assume_safety)")
#else
#define AVEC_EACH_LANE _Pragma("GCC ivdep")
#endif

namespace avec::cpu::ptx {

template <class F, class D, class A>
void unary(Warp& w, const Instruction& in, Mask mask) {
  D* d = w.out<D>(in.d);
  const A* a = w.in<A>(in.a);
  if (w.dense(mask)) {
    AVEC_EACH_LANE
    for (unsigned i = 0; i < kLanes; ++i) d[i] = F::f(a[i]);
  } else {
    for_lanes(mask, [&](unsigned i) { d[i] = F::f(a[i]); });
  }
}

template <class F, class D, class A, class B>
void binary(Warp& w, const Instruction& in, Mask mask) {
  D* d = w.out<D>(in.d);
  const A* a = w.in<A>(in.a);
  const B* b = w.in<B>(in.b);
  if (w.dense(mask)) {
    AVEC_EACH_LANE
    for (unsigned i = 0; i < kLanes; ++i) d[i] = F::f(a[i], b[i]);
  } else {
    for_lanes(mask, [&](unsigned i) { d[i] = F::f(a[i], b[i]); });
  }
}

template <class F, class D, class A, class B, class C>
void ternary(Warp& w, const Instruction& in, Mask mask) {
  D* d = w.out<D>(in.d);
  const A* a = w.in<A>(in.a);
  const B* b = w.in<B>(in.b);
  const C* c = w.in<C>(in.c);
  if (w.dense(mask)) {
    AVEC_EACH_LANE
    for (unsigned i = 0; i < kLanes; ++i) d[i] = F::f(a[i], b[i], c[i]);
  } else {
    for_lanes(mask, [&](unsigned i) { d[i] = F::f(a[i], b[i], c[i]); });
  }
}

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

// Handlers of F<T> over T by type; null where the type does not fit.
template <template <class> class F>
Handler integer_unary(Type type) {
  switch (type) {
    case Type::kU16:
    case Type::kB16: return unary<F<u16>, u16, u16>;
    case Type::kS16: return unary<F<s16>, s16, s16>;
    case Type::kU32:
    case Type::kB32: return unary<F<u32>, u32, u32>;
    case Type::kS32: return unary<F<s32>, s32, s32>;
    case Type::kU64:
    case Type::kB64: return unary<F<u64>, u64, u64>;
    case Type::kS64: return unary<F<s64>, s64, s64>;
    default: return nullptr;
  }
}

template <template <class> class F>
Handler integer_binary(Type type) {
  switch (type) {
    case Type::kU16:
    case Type::kB16: return binary<F<u16>, u16, u16, u16>;
    case Type::kS16: return binary<F<s16>, s16, s16, s16>;
    case Type::kU32:
    case Type::kB32: return binary<F<u32>, u32, u32, u32>;
    case Type::kS32: return binary<F<s32>, s32, s32, s32>;
    case Type::kU64:
    case Type::kB64: return binary<F<u64>, u64, u64, u64>;
    case Type::kS64: return binary<F<s64>, s64, s64, s64>;
    default: return nullptr;
  }
}

template <template <class> class F>
Handler integer_ternary(Type type) {
  switch (type) {
    case Type::kU16:
    case Type::kB16: return ternary<F<u16>, u16, u16, u16, u16>;
    case Type::kS16: return ternary<F<s16>, s16, s16, s16, s16>;
    case Type::kU32:
    case Type::kB32: return ternary<F<u32>, u32, u32, u32, u32>;
    case Type::kS32: return ternary<F<s32>, s32, s32, s32, s32>;
    case Type::kU64:
    case Type::kB64: return ternary<F<u64>, u64, u64, u64, u64>;
    case Type::kS64: return ternary<F<s64>, s64, s64, s64, s64>;
    default: return nullptr;
  }
}

/// By size only: bits are bits.
template <template <class> class F>
Handler bits_unary(Type type) {
  switch (bytes_of(type)) {
    case 1:
    case 2: return unary<F<u16>, u16, u16>;
    case 4: return unary<F<u32>, u32, u32>;
    case 8: return unary<F<u64>, u64, u64>;
    default: return nullptr;
  }
}

template <template <class> class F>
Handler bits_binary(Type type) {
  switch (bytes_of(type)) {
    case 1:
    case 2: return binary<F<u16>, u16, u16, u16>;
    case 4: return binary<F<u32>, u32, u32, u32>;
    case 8: return binary<F<u64>, u64, u64, u64>;
    default: return nullptr;
  }
}

}  // namespace avec::cpu::ptx
