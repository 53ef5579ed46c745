// Owns what is around the layers for candidates: their input rows, and the logits read off the
// outputs. Always in float32, as is what the network itself does around its layers.
#pragma once

#include "layer.h"

namespace mfalcon {

// Items of which no action is known yet, after `num_events` events -> x (rows, stride).
inline void embed(const Model& m, const int64_t* items, int rows, int num_events, float* x,
                  int stride) {
  const float* place = nullptr;
  if (m.positions) place = m.positions + std::min(num_events, m.num_positions - 1) * m.width;
  for (int r = 0; r < rows; ++r) {
    const float* item = m.items + items[r] * m.width;
    float* row = x + r * stride;
    for (int c = 0; c < m.width; ++c) row[c] = item[c] * m.item_scale + m.no_action[c];
    for (int c = 0; place && c < m.width; ++c) row[c] += place[c];
  }
}

// Outputs x (rows, stride), which are overwritten -> logits (rows, actions).
template <class Num>
void read_off(const Model& m, const Sizes& s, float* x, int stride, int rows, Scratch<Num>& t,
              float* logits) {
  float* normed = t.normed.get();
  for (int r = 0; r < rows; ++r)
    normalise(x + r * stride, m.width, m.final_scale, m.final_shift, m.norm_eps,
              normed + r * s.normed_stride);
  const Operand<Float32> in = {normed, s.normed_stride}, hidden = {x, stride};
  for (int column = 0; column < m.width; column += kWidth) {
    float* out = x + column;
    multiply<Float32>(rows, in, m.hidden + column * m.width, m.width, m.hidden_shift + column, 0,
                      out, stride);
    for (int r = 0; r < rows; ++r, out += stride)
      for (int c = 0; c < kWidth; c += kLanes) store(out + c, silu<Float32>(load(out + c)));
  }
  float* part = t.weights.get();  // (rows, 32)
  for (int column = 0; column < m.num_actions; column += kWidth) {
    multiply<Float32>(rows, hidden, m.logits + column * m.width, m.width, m.logits_shift + column,
                      0, part, kWidth);
    for (int r = 0; r < rows; ++r)
      std::copy_n(part + r * kWidth, std::min(kWidth, m.num_actions - column),
                  logits + r * m.num_actions + column);
  }
}

}  // namespace mfalcon
