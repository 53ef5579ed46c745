// Owns all layers of an HSTU over event rows and over candidate rows, for users whose K and V lie
// in pages. Never embeds, never ranks, never allocates pages.
//
// A page holds up to 32 rows of one user: for every layer and head the keys as a panel (K, 32), then
// the values as (32, V). Both are operands of `multiply` as they lie, so history is never copied.
// A row's arithmetic is the same whatever rows it shares a block with.
#include <algorithm>
#include <memory>
#include <vector>

#include "tile.h"

namespace mfalcon {

enum Output { kGated, kConcatenated, kUnprojected };

extern "C" {

struct Layer {
  const float *in_scale, *in_shift;  // (D); null: no norm
  const float* mix;                  // (C / 32, D, 32) panels of the columns u, v, q, k
  const float* mix_shift;            // (C)
  const float *attention_scale, *attention_shift;  // (H V); null: no norm
  const float* out;                                // (Dp / 32, O, 32) panels; null: unprojected
  const float* out_shift;                          // (Dp)
  const float* position;                           // (G, num_distances)
  const float* time;                               // (G, num_boundaries + 1)
};

struct Model {
  int32_t num_layers, width, heads, qk, v, bias_heads, num_distances, num_boundaries;
  int32_t gate_is_sigmoid, residual_is_normed, output, query_is_next;
  float norm_eps, q_scale, divisor;  // divisor 0: the number of keys a row sees
  const int64_t* boundaries;         // first second of each time bucket past bucket 0
  const Layer* layers;
};

struct User {
  float* const* pages;
  const int64_t* times;  // (num_events) Unix seconds
  int64_t now;           // time of the request
  int32_t num_events;
  int32_t start, stop;  // event rows that are run
  int32_t first;        // of this user's rows among all
  int32_t num_rows;
  int32_t is_live;  // the last row's output is wanted
};
}

namespace {

constexpr int kBlockRows = 96;   // candidates that go through all layers together, at most
constexpr int kEncodeRows = 24;  // event rows that are projected together, at most

int padded(int n) { return (n + kWidth - 1) / kWidth * kWidth; }

// A row stride for `n` numbers: an odd number of half panels, so that rows spread over the cache.
int strided(int n) { return padded(n) + kWidth / 2; }

// Sizes that follow from a model's.
struct Sizes {
  int width, gate, keys, columns, head_v, inner;
  int normed_stride, mixed_stride, attended_stride, gated_stride;
  explicit Sizes(const Model& m)
      : width(padded(m.width)),
        gate(m.heads * m.v),
        keys(m.heads * m.qk),
        columns(padded(2 * (gate + keys))),
        head_v(padded(m.v)),
        inner(m.output == kConcatenated ? 3 * gate : gate),
        normed_stride(strided(m.width)),
        mixed_stride(strided(columns)),
        attended_stride(strided(m.heads * head_v)),
        gated_stride(strided(inner)) {}
};

// Memory that is written before it is read.
template <class T>
using Buffer = std::unique_ptr<T[]>;

template <class T = float>
Buffer<T> buffer(size_t n) {
  return Buffer<T>(new T[n]);
}

// What one thread works in, for blocks of at most `rows` rows.
struct Scratch {
  Buffer<float> normed, mixed, attended, gated, weights, bias;
  Buffer<uint8_t> bucket;
  Scratch(const Sizes& s, int rows, int num_events)
      : normed(buffer(rows * s.normed_stride)),
        mixed(buffer(rows * s.mixed_stride)),
        attended(buffer(rows * s.attended_stride)),
        gated(buffer(rows * s.gated_stride)),
        weights(buffer(rows * kWidth)),
        bias(buffer(rows * kWidth)),
        bucket(buffer<uint8_t>(num_events)) {}
};

void normalise(const float* x, int n, const float* scale, const float* shift, float eps, float* y) {
  if (!scale) {
    std::copy(x, x + n, y);
    return;
  }
  float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) sum += x[i];
  const float mean = sum / n;
#pragma omp simd reduction(+ : squares)
  for (int i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float factor = 1 / __builtin_sqrtf(squares / n + eps);
#pragma omp simd
  for (int i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor * scale[i] + shift[i];
}

// Walks from the last bucket: neighbouring events are neighbouring in time.
int bucket_of(const Model& m, int64_t span, int bucket) {
  if (span < 0) span = -span;
  while (bucket > 0 && span < m.boundaries[bucket - 1]) --bucket;
  while (bucket < m.num_boundaries && span >= m.boundaries[bucket]) ++bucket;
  return bucket;
}

void fill_buckets(const Model& m, const int64_t* times, int64_t now, int n, uint8_t* bucket) {
  int last = m.num_boundaries;
  for (int j = 0; j < n; ++j) bucket[j] = last = bucket_of(m, now - times[j], last);
}

// Bias of row `row` towards keys first .. first + 31, for one group of heads.
void fill_bias(const Model& m, const Layer& l, int group, int row, const uint8_t* bucket, int first,
               int count, float* bias) {
  const float* position = l.position + group * m.num_distances;
  const float* time = l.time + group * (m.num_boundaries + 1);
  const int farthest = m.num_distances - 1;
  for (int j = 0; j < count; ++j)
    bias[j] = position[std::min(row - first - j, farthest)] + time[bucket[first + j]];
}

// x (rows, stride) -> normed, mixed = SiLU(normed W + b), q scaled.
void project(const Model& m, const Sizes& s, const Layer& l, const float* x, int stride, int rows,
             bool only_kv, float* normed, float* mixed) {
  for (int r = 0; r < rows; ++r)
    normalise(x + r * stride, m.width, l.in_scale, l.in_shift, m.norm_eps, normed + r * s.normed_stride);
  for (int column = 0; column < s.columns; column += kWidth) {
    const int end = column + kWidth;
    const bool has_kv = (end > s.gate && column < 2 * s.gate) || end > 2 * s.gate + s.keys;
    if (only_kv && !has_kv) continue;
    multiply(rows, normed, s.normed_stride, l.mix + column * m.width, kWidth, m.width,
             l.mix_shift + column, 0, mixed + column, s.mixed_stride);
    for (int r = 0; r < rows; ++r) {
      float* out = mixed + r * s.mixed_stride + column;
      if (!m.gate_is_sigmoid)
        for (int c = 0; c < kWidth; c += kLanes) store(out + c, silu(load(out + c)));
    }
  }
  for (int r = 0; r < rows; ++r) {
    float* row = mixed + r * s.mixed_stride;
    if (m.gate_is_sigmoid)
      for (int c = 0; c < s.gate; ++c) row[c] = 1 / (1 + __builtin_expf(-row[c]));
    if (m.q_scale != 1)
      for (int c = 2 * s.gate; c < 2 * s.gate + s.keys; ++c) row[c] *= m.q_scale;
  }
}

// weights (rows, 32) of the keys in one page -> attended += weights V.
void attend_page(const Model& m, const Sizes& s, const float* page, int layer, int head,
                 const float* q, int rows, int count, const float* bias, int bias_stride,
                 float* weights, float* attended, const int* visible) {
  const float* keys = page + (layer * m.heads + head) * kWidth * (m.qk + m.v);
  const float* values = keys + kWidth * m.qk;
  multiply(rows, q, s.mixed_stride, keys, kWidth, m.qk, bias, bias_stride, weights, kWidth);
  for (int i = 0; i < rows * kWidth; i += kLanes) store(weights + i, silu(load(weights + i)));
  if (visible)
    for (int r = 0; r < rows; ++r)
      for (int j = std::max(visible[r], 0); j < count; ++j) weights[r * kWidth + j] = 0;
  for (int column = 0; column < m.v; column += kWidth) {
    float* sum = attended + head * s.head_v + column;
    multiply(rows, weights, kWidth, values + column, m.v, count, sum, s.attended_stride, sum,
             s.attended_stride);
  }
}

// The gate, the output projection and the residual; x is overwritten.
void finish(const Model& m, const Sizes& s, const Layer& l, const float* base, int base_stride,
            const float* mixed, const float* attended, const float* divisor, int rows, Scratch& t,
            float* x, int stride) {
  for (int r = 0; r < rows; ++r) {
    const float* u = mixed + r * s.mixed_stride;
    float* gated = t.gated.get() + r * s.gated_stride;
    float* plain = m.output == kConcatenated ? gated + s.gate : gated;
    const float factor = 1 / divisor[r];
    for (int h = 0; h < m.heads; ++h)
      for (int c = 0; c < m.v; ++c)
        plain[h * m.v + c] = attended[r * s.attended_stride + h * s.head_v + c] * factor;
    normalise(plain, s.gate, l.attention_scale, l.attention_shift, m.norm_eps, plain);
    if (m.output == kConcatenated) {
      std::copy_n(u, s.gate, gated);
      for (int c = 0; c < s.gate; ++c) gated[2 * s.gate + c] = u[c] * plain[c];
    } else {
      for (int c = 0; c < s.gate; ++c) gated[c] *= u[c];
    }
  }
  for (int column = 0; column < s.width; column += kWidth) {
    float block[kBlockRows * kWidth];
    const int count = std::min(kWidth, m.width - column);
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < kWidth; ++c) block[r * kWidth + c] = l.out ? l.out_shift[column + c] : 0;
      for (int c = 0; c < count; ++c) block[r * kWidth + c] += base[r * base_stride + column + c];
    }
    if (l.out)
      multiply(rows, t.gated.get(), s.gated_stride, l.out + column * s.inner, kWidth, s.inner, block,
               kWidth, block, kWidth);
    else
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < count; ++c)
          block[r * kWidth + c] += t.gated[r * s.gated_stride + column + c];
    for (int r = 0; r < rows; ++r) std::copy_n(block + r * kWidth, count, x + r * stride + column);
  }
}

float divisor_of(const Model& m, int num_keys) { return m.divisor ? m.divisor : num_keys; }

// All layers over candidates of one user.
void score_block(const Model& m, const Sizes& s, const User& user, float* x, int rows, Scratch& t) {
  const int n = user.num_events;
  fill_buckets(m, user.times, user.now, n, t.bucket.get());
  float divisor[kBlockRows];
  std::fill_n(divisor, rows, divisor_of(m, n + 1));
  float bias[kWidth];
  for (int index = 0; index < m.num_layers; ++index) {
    const Layer& l = m.layers[index];
    project(m, s, l, x, m.width, rows, false, t.normed.get(), t.mixed.get());
    const float* q = t.mixed.get() + 2 * s.gate;
    std::fill_n(t.attended.get(), rows * s.attended_stride, 0.0f);
    for (int first = 0; first < n; first += kWidth) {
      const int count = std::min(kWidth, n - first);
      for (int head = 0; head < m.heads; ++head) {
        if (head < m.bias_heads)
          fill_bias(m, l, head, n, t.bucket.get(), first, count, bias);
        attend_page(m, s, user.pages[first / kWidth], index, head, q + head * m.qk, rows, count,
                    bias, 0, t.weights.get(), t.attended.get(), nullptr);
      }
    }
    for (int r = 0; r < rows; ++r)
      for (int head = 0; head < m.heads; ++head) {
        const int group = head < m.bias_heads ? head : 0;
        const float* row = t.mixed.get() + r * s.mixed_stride;
        const float* own_q = row + 2 * s.gate + head * m.qk;
        const float* own_k = own_q + s.keys;
        const float* own_v = row + s.gate + head * m.v;
        float score = 0;
#pragma omp simd reduction(+ : score)
        for (int c = 0; c < m.qk; ++c) score += own_q[c] * own_k[c];
        score += l.position[group * m.num_distances] + l.time[group * (m.num_boundaries + 1)];
        const float weight = silu(Vec{} + score)[0];
        float* out = t.attended.get() + r * s.attended_stride + head * s.head_v;
        for (int c = 0; c < m.v; ++c) out[c] += weight * own_v[c];
      }
    const bool normed = m.residual_is_normed;
    finish(m, s, l, normed ? t.normed.get() : x, normed ? s.normed_stride : m.width, t.mixed.get(),
           t.attended.get(), divisor, rows, t, x, m.width);
  }
}

// K and V of one row into column `row % 32` of its page.
void write_row(const Model& m, const Sizes& s, const User& user, int layer, int row,
               const float* mixed) {
  float* page = user.pages[row / kWidth];
  const int column = row % kWidth;
  for (int head = 0; head < m.heads; ++head) {
    float* keys = page + (layer * m.heads + head) * kWidth * (m.qk + m.v);
    float* values = keys + kWidth * m.qk;
    const float* v = mixed + s.gate + head * m.v;
    const float* k = mixed + 2 * s.gate + s.keys + head * m.qk;
    for (int c = 0; c < m.qk; ++c) keys[c * kWidth + column] = k[c];
    std::copy_n(v, m.v, values + column * m.v);
  }
}

// Attention of `rows` event rows of one user, from event `first_row` on, each to itself and before.
void attend_events(const Model& m, const Sizes& s, const User& user, int layer, int first_row,
                   int rows, const uint8_t* bucket, int bucket_stride, const float* q, Scratch& t,
                   float* attended) {
  const Layer& l = m.layers[layer];
  const int last_row = first_row + rows - 1;
  int visible[kBlockRows];
  std::fill_n(attended, rows * s.attended_stride, 0.0f);
  for (int first = 0; first <= last_row; first += kWidth) {
    const int count = std::min(kWidth, last_row + 1 - first);
    const int skip = std::max(0, first - first_row);  // rows before the page
    const bool is_diagonal = first + count > first_row + 1;
    for (int r = skip; r < rows; ++r) visible[r] = std::min(count, first_row + r + 1 - first);
    for (int head = 0; head < m.heads; ++head) {
      if (head < m.bias_heads)
        for (int r = skip; r < rows; ++r) {
          float* bias = t.bias.get() + r * kWidth;
          fill_bias(m, l, head, first_row + r, bucket + r * bucket_stride, first, visible[r], bias);
          std::fill(bias + visible[r], bias + kWidth, 0.0f);
        }
      attend_page(m, s, user.pages[first / kWidth], layer, head,
                  q + skip * s.mixed_stride + head * m.qk, rows - skip, count,
                  t.bias.get() + skip * kWidth, kWidth, t.weights.get(),
                  attended + skip * s.attended_stride, is_diagonal ? visible + skip : nullptr);
    }
  }
}

// All rows of an encode, of all users, and what the layers leave of them.
struct Pass {
  const Model& m;
  const Sizes s;
  const User* users;
  float* x;                    // (R, D)
  std::vector<int> owner;      // (R) the user of a row
  std::vector<size_t> bucket;  // (R) where a row's buckets begin
  Buffer<uint8_t> buckets;
  Buffer<float> normed, mixed;

  Pass(const Model& model, const User* users, int num_users, float* x)
      : m(model), s(model), users(users), x(x) {
    size_t size = 0;
    for (int u = 0; u < num_users; ++u)
      for (int r = 0; r < users[u].num_rows; ++r, size += users[u].stop) {
        owner.push_back(u);
        bucket.push_back(size);
      }
    buckets = buffer<uint8_t>(size);
    normed = buffer(owner.size() * s.normed_stride);
    mixed = buffer(owner.size() * s.mixed_stride);
  }

  int event_of(int row) const {
    const User& user = users[owner[row]];
    return user.start + row - user.first;
  }

  bool is_wanted(int row) const {
    const User& user = users[owner[row]];
    return user.is_live && row - user.first == user.num_rows - 1;
  }

  void find_buckets(int row) {
    const User& user = users[owner[row]];
    const int i = event_of(row);
    const bool is_newest = i + 1 == user.num_events;
    const int64_t now = !m.query_is_next ? user.times[i] : is_newest ? user.now : user.times[i + 1];
    fill_buckets(m, user.times, now, i + 1, buckets.get() + bucket[row]);
  }

  void project_rows(int layer, int first, int rows) {
    bool only_kv = layer == m.num_layers - 1;
    for (int r = first; only_kv && r < first + rows; ++r) only_kv = !is_wanted(r);
    float* out = mixed.get() + size_t(first) * s.mixed_stride;
    project(m, s, m.layers[layer], x + size_t(first) * m.width, m.width, rows, only_kv,
            normed.get() + size_t(first) * s.normed_stride, out);
    for (int r = 0; r < rows; ++r)
      write_row(m, s, users[owner[first + r]], layer, event_of(first + r),
                out + r * s.mixed_stride);
  }

  // Attention and output of rows that may belong to several users -> out (rows, D).
  void finish_rows(int layer, int first, int rows, Scratch& t, float* out) {
    const Layer& l = m.layers[layer];
    float divisor[kBlockRows];
    for (int r = 0; r < rows; ++r) divisor[r] = divisor_of(m, event_of(first + r) + 1);
    for (int r = first; r < first + rows;) {
      const User& user = users[owner[r]];
      const int end = std::min(first + rows, user.first + user.num_rows);
      attend_events(m, s, user, layer, event_of(r), end - r, buckets.get() + bucket[r], user.stop,
                    mixed.get() + size_t(r) * s.mixed_stride + 2 * s.gate, t,
                    t.attended.get() + (r - first) * s.attended_stride);
      r = end;
    }
    const bool in_normed = m.residual_is_normed;
    const float* base = in_normed ? normed.get() + size_t(first) * s.normed_stride
                                  : x + size_t(first) * m.width;
    finish(m, s, l, base, in_normed ? s.normed_stride : m.width,
           mixed.get() + size_t(first) * s.mixed_stride, t.attended.get(), divisor, rows, t, out,
           m.width);
  }
};

}  // namespace

extern "C" void mfalcon_score(const Model* model, const User* users, int num_users, float* x,
                              int threads) {
  const Model& m = *model;
  const Sizes s(m);
  struct Block {
    const User* user;
    int first, rows;
  };
  std::vector<Block> blocks;
  int most_events = 0;
  for (const User* u = users; u < users + num_users; ++u) {
    most_events = std::max(most_events, u->num_events);
    int num = (u->num_rows + kBlockRows - 1) / kBlockRows;
    if (num_users == 1) num = (num + threads - 1) / threads * threads;
    for (int i = 0, done = 0; i < num; ++i) {
      const int rows = (u->num_rows - done + num - i - 1) / (num - i);
      if (rows) blocks.push_back({u, u->first + done, rows});
      done += rows;
    }
  }
#pragma omp parallel num_threads(threads) if (threads > 1 && blocks.size() > 1)
  {
    Scratch t(s, kBlockRows, most_events);
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < blocks.size(); ++i)
      score_block(m, s, *blocks[i].user, x + blocks[i].first * m.width, blocks[i].rows, t);
  }
}

// Runs event rows `start` to `stop` of each user: fills their pages and writes the output of each
// live user's last row to `last` (num_users, D). x (R, D) is overwritten.
extern "C" void mfalcon_encode(const Model* model, const User* users, int num_users, float* x,
                               float* last, int threads) {
  Pass pass(*model, users, num_users, x);
  const int num_rows = pass.owner.size(), width = model->width;
  const int block = std::clamp((num_rows + threads - 1) / threads, 1, kEncodeRows);
#pragma omp parallel num_threads(threads) if (threads > 1 && num_rows > 1)
  {
    Scratch t(pass.s, block, 0);
#pragma omp for schedule(dynamic, 16)
    for (int r = 0; r < num_rows; ++r) pass.find_buckets(r);
    for (int layer = 0; layer < model->num_layers; ++layer) {
#pragma omp for schedule(dynamic)
      for (int r = 0; r < num_rows; r += block)
        pass.project_rows(layer, r, std::min(block, num_rows - r));
      if (layer + 1 < model->num_layers) {
#pragma omp for schedule(dynamic)
        for (int r = 0; r < num_rows; r += block)
          pass.finish_rows(layer, r, std::min(block, num_rows - r), t, x + size_t(r) * width);
      } else {
#pragma omp for schedule(dynamic)
        for (int u = 0; u < num_users; ++u)
          if (users[u].is_live)
            pass.finish_rows(layer, users[u].first + users[u].num_rows - 1, 1, t,
                             last + size_t(u) * width);
      }
    }
  }
}

}  // namespace mfalcon
