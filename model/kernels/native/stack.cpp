// Owns all layers of an HSTU over candidate rows and over event rows, for users whose K and V lie
// in pages. Never ranks, never allocates pages. A row's arithmetic is the same whatever rows it
// shares a block with.
#include <vector>

#include "heads.h"

namespace mfalcon {
namespace {

constexpr int kScoreRows = 96;   // candidates that go through all layers together, at most
constexpr int kEncodeRows = 24;  // event rows that are projected together, at most

float divisor_of(const Model& m, int num_keys) { return m.divisor ? m.divisor : num_keys; }

// What each candidate sees of itself.
template <class Num>
void attend_self(const Model& m, const Sizes& s, const Layer& l, int rows, Scratch<Num>& t) {
  float weights[kScoreRows + kLanes];
  for (int head = 0; head < m.heads; ++head) {
    const int group = head < m.bias_heads ? head : 0;
    const float bias = l.position[group * m.num_distances] + l.time[group * (m.num_boundaries + 1)];
    const float* v = t.mixed.get() + s.gate + head * m.v;
    const float* q = t.mixed.get() + 2 * s.gate + head * m.qk;
    const float* k = q + s.keys;
    for (int r = 0; r < rows; ++r, q += s.mixed_stride, k += s.mixed_stride)
      weights[r] = bias + sum(m.qk, [&](int c, auto w) {
                     return at<decltype(w)>(q + c) * at<decltype(w)>(k + c);
                   });
    for (int r = 0; r < rows; r += kLanes) store(weights + r, silu<Num>(load(weights + r)));
    float* out = t.attended.get() + head * s.head_v;
    for (int r = 0; r < rows; ++r, v += s.mixed_stride, out += s.attended_stride)
      for (int c = 0; c < m.v; ++c) out[c] += weights[r] * v[c];
  }
}

// Candidates of one user through all layers -> logits (rows, actions); x (rows, stride) is room.
template <class Num>
void score_block(const Model& m, const Sizes& s, const User& user, const int64_t* items, int rows,
                 Scratch<Num>& t, float* x, float* logits) {
  const int n = user.num_events, stride = s.normed_stride;
  for (int r = 0; r < rows; ++r) embed_candidate(m, user, items[r], x + r * stride);
  fill_buckets(m, user.times, user.now, n, t.bucket.get());
  float bias[kStrip], divisor[kScoreRows];
  std::fill_n(divisor, rows, divisor_of(m, n + 1));
  std::vector<Operand<Num>> q(m.heads);
  for (int layer = 0; layer < m.num_layers; ++layer) {
    const Layer& l = m.layers[layer];
    project<Num>(m, s, l, x, stride, rows, false, t, t.normed.get(), t.mixed.get());
    for (int head = 0; head < m.heads; ++head)
      q[head] = queries<Num>(m, s, t.mixed.get(), rows, head, t);
    std::fill_n(t.attended.get(), rows * s.attended_stride, 0.0f);
    for (int first = 0; first < n; first += kStrip)
      for (int head = 0; head < m.heads; ++head) {
        const int count = std::min(kStrip, n - first);
        if (head < m.bias_heads) fill_bias(m, l, head, n, t.bucket.get(), first, count, bias);
        attend_strip<Num>(m, s, user, layer, head, first, count, q[head], rows, bias, 0, nullptr, t,
                          t.attended.get());
      }
    attend_self<Num>(m, s, l, rows, t);
    finish<Num>(m, s, l, m.residual_is_normed ? t.normed.get() : x, stride, t.mixed.get(),
                t.attended.get(), divisor, rows, t, x, stride);
  }
  read_logits<Num>(m, s, x, stride, rows, t, logits);
}

template <class Num>
void score(const Model& m, const User* users, int num_users, int threads) {
  const Sizes s(m);
  struct Part {
    const User* user;
    int first, rows;  // of this user's
  };
  std::vector<Part> parts;
  int most_events = 0;
  for (const User* u = users; u < users + num_users; ++u) {
    most_events = std::max(most_events, u->num_events);
    int num = (u->num_rows + kScoreRows - 1) / kScoreRows;
    if (num_users == 1) num = (num + threads - 1) / threads * threads;
    for (int i = 0, done = 0; i < num; ++i) {
      const int rows = (u->num_rows - done + num - i - 1) / (num - i);
      if (rows) parts.push_back({u, done, rows});
      done += rows;
    }
  }
#pragma omp parallel num_threads(threads) if (threads > 1 && parts.size() > 1)
  {
    Scratch<Num> t(m, s, kScoreRows, most_events);
    const Buffer<float> x = buffer(kScoreRows * s.normed_stride);
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto [user, first, rows] = parts[i];
      score_block<Num>(m, s, *user, user->items + first, rows, t, x.get(),
                       user->out + size_t(first) * m.num_logits);
    }
  }
}

// All rows of an encode, of all users, and what a layer leaves of them for the next.
template <class Num>
struct Pass {
  const Model& m;
  const Sizes s;
  const User* users;
  std::vector<int> owner;      // (R) the user of a row
  std::vector<size_t> bucket;  // (R) where a row's buckets begin
  Buffer<uint8_t> buckets;
  Buffer<float> x, normed, mixed;  // x (R, D)

  Pass(const Model& model, const User* users, int num_users) : m(model), s(model), users(users) {
    size_t size = 0;
    for (int u = 0; u < num_users; ++u)
      for (int r = 0; r < users[u].num_rows; ++r, size += users[u].stop) {
        owner.push_back(u);
        bucket.push_back(size);
      }
    buckets = buffer<uint8_t>(size);
    x = buffer(owner.size() * m.width);
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

  float* x_of(int row) const { return x.get() + size_t(row) * m.width; }

  void begin(int row) {
    const User& user = users[owner[row]];
    const int i = event_of(row);
    embed_event(m, user, i, x_of(row));
    const bool is_newest = i + 1 == user.num_events;
    const int64_t now = !m.query_is_next ? user.times[i] : is_newest ? user.now : user.times[i + 1];
    fill_buckets(m, user.times, now, i + 1, buckets.get() + bucket[row]);
  }

  // K and V of one row into its column of its page.
  void write(int layer, int row) {
    const User& user = users[owner[row]];
    const int event = event_of(row), column = event % kWidth, per = Num::kPer;
    const bool is_alone = event + 1 == user.stop && column % per == 0;  // of its pair, in values
    for (int head = 0; head < m.heads; ++head) {
      const Block<Num> page(m, user.pages[event / kWidth], layer, head);
      auto* keys = reinterpret_cast<typename Num::Number*>(page.keys);
      auto* values = reinterpret_cast<typename Num::Number*>(page.values);
      const float* v = mixed.get() + size_t(row) * s.mixed_stride + s.gate + head * m.v;
      const float* k =
          mixed.get() + size_t(row) * s.mixed_stride + 2 * s.gate + s.keys + head * m.qk;
      for (int c = 0; c < words<Num>(m.qk) * per; ++c)
        keys[(c / per * kWidth + column) * per + c % per] = c < m.qk ? Num::round(k[c]) : 0;
      for (int c = 0; c < m.v; ++c) {
        auto* value = values + (column / per * m.v + c) * per + column % per;
        value[0] = Num::round(v[c]);
        if (per > 1 && is_alone) value[1] = 0;
      }
    }
  }

  void project_rows(int layer, int first, int rows, Scratch<Num>& t) {
    bool only_kv = layer == m.num_layers - 1;
    for (int r = first; only_kv && r < first + rows; ++r) only_kv = !is_wanted(r);
    project<Num>(m, s, m.layers[layer], x_of(first), m.width, rows, only_kv, t,
                 normed.get() + size_t(first) * s.normed_stride,
                 mixed.get() + size_t(first) * s.mixed_stride);
    for (int r = first; r < first + rows; ++r) write(layer, r);
  }

  // Attention of rows of one user, each to itself and those before -> attended.
  void attend(int layer, int row, int rows, Scratch<Num>& t, float* attended) {
    const Layer& l = m.layers[layer];
    const User& user = users[owner[row]];
    const int event = event_of(row), end = event + rows;
    int visible[kEncodeRows];
    std::vector<Operand<Num>> q(m.heads);
    for (int head = 0; head < m.heads; ++head)
      q[head] = queries<Num>(m, s, mixed.get() + size_t(row) * s.mixed_stride, rows, head, t);
    std::fill_n(attended, rows * s.attended_stride, 0.0f);
    for (int first = 0; first < end; first += kStrip) {
      const int count = std::min(kStrip, end - first);
      const int skip = std::max(0, first - event);  // rows before the strip
      const bool is_diagonal = first + count > event + 1;
      for (int r = skip; r < rows; ++r) visible[r] = std::min(count, event + r + 1 - first);
      for (int head = 0; head < m.heads; ++head) {
        if (head < m.bias_heads)
          for (int r = skip; r < rows; ++r) {
            float* bias = t.bias.get() + r * kStrip;
            fill_bias(m, l, head, event + r, buckets.get() + bucket[row + r], first, visible[r],
                      bias);
            std::fill(bias + visible[r], bias + kStrip, 0.0f);
          }
        const Operand<Num> own = {q[head].at + skip * q[head].stride, q[head].stride};
        attend_strip<Num>(
            m, s, user, layer, head, first, count, own, rows - skip, t.bias.get() + skip * kStrip,
            kStrip, is_diagonal ? visible + skip : nullptr, t, attended + skip * s.attended_stride);
      }
    }
  }

  // Attention and output of rows that may belong to several users -> x.
  void finish_rows(int layer, int first, int rows, Scratch<Num>& t) {
    float divisor[kEncodeRows];
    for (int r = 0; r < rows; ++r) divisor[r] = divisor_of(m, event_of(first + r) + 1);
    for (int r = first; r < first + rows;) {
      const User& user = users[owner[r]];
      const int end = std::min(first + rows, user.first + user.num_rows);
      attend(layer, r, end - r, t, t.attended.get() + (r - first) * s.attended_stride);
      r = end;
    }
    const bool in_normed = m.residual_is_normed;
    const float* base = in_normed ? normed.get() + size_t(first) * s.normed_stride : x_of(first);
    finish<Num>(m, s, m.layers[layer], base, in_normed ? s.normed_stride : m.width,
                mixed.get() + size_t(first) * s.mixed_stride, t.attended.get(), divisor, rows, t,
                x_of(first), m.width);
  }
};

template <class Num>
void encode(const Model& m, const User* users, int num_users, int threads) {
  Pass<Num> pass(m, users, num_users);
  const int num_rows = pass.owner.size();
  const int block = std::clamp((num_rows + threads - 1) / threads, 1, kEncodeRows);
#pragma omp parallel num_threads(threads) if (threads > 1 && num_rows > 1)
  {
    Scratch<Num> t(m, pass.s, block, 0);
#pragma omp for schedule(dynamic, 16)
    for (int r = 0; r < num_rows; ++r) pass.begin(r);
    for (int layer = 0; layer < m.num_layers; ++layer) {
#pragma omp for schedule(dynamic)
      for (int r = 0; r < num_rows; r += block)
        pass.project_rows(layer, r, std::min(block, num_rows - r), t);
      if (layer + 1 < m.num_layers) {
#pragma omp for schedule(dynamic)
        for (int r = 0; r < num_rows; r += block)
          pass.finish_rows(layer, r, std::min(block, num_rows - r), t);
      } else {
#pragma omp for schedule(dynamic)
        for (int u = 0; u < num_users; ++u)
          if (users[u].is_live) {
            const int last = users[u].first + users[u].num_rows - 1;
            pass.finish_rows(layer, last, 1, t);
            read_query(m, pass.x_of(last), users[u].out);
          }
      }
    }
  }
}

// f(the kind of numbers that the model is multiplied in)
template <class F>
void run(const Model& m, F f) {
#if defined(MFALCON_BF16)
  if (m.is_bfloat16) return f(BFloat16{});
#endif
  f(Float32{});
}

}  // namespace

extern "C" {

// The digest of the sources this was made of.
const char* mfalcon_sources() { return MFALCON_SOURCES; }

// Whether models in bfloat16 run here.
int mfalcon_has_bfloat16() {
#if defined(MFALCON_BF16)
  return __builtin_cpu_supports("avx512bf16");
#else
  return 0;
#endif
}

// The candidates of each user -> their logits. False, and nothing done: one is none of the items.
bool mfalcon_score(const Model* model, const User* users, int num_users, int threads) {
  for (const User* u = users; u < users + num_users; ++u)
    for (int i = 0; i < u->num_rows; ++i)
      if (!is_known(*model, u->items[i], kNoAction)) return false;
  run(*model, [&](auto num) { score<decltype(num)>(*model, users, num_users, threads); });
  return true;
}

// Event rows `start` to `stop` of each user: fills their pages, and -> the query of each live user.
// False, and nothing done: an item or an action is unknown.
bool mfalcon_encode(const Model* model, const User* users, int num_users, int threads) {
  for (const User* u = users; u < users + num_users; ++u)
    for (int i = u->start; i < u->stop; ++i)
      if (!is_known(*model, u->items[i], u->actions[i])) return false;
  run(*model, [&](auto num) { encode<decltype(num)>(*model, users, num_users, threads); });
  return true;
}
}

}  // namespace mfalcon
