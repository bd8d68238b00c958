/* Softmax attention for heads 8 wide in float32, forward and backward. Query i sees the keys [0, a), [b, c) and [d, i], where
   a, b, c and d are its four ranges.

   Each head's keys and values lie transposed, (8, tokens), so that all loops run over keys and the compiler vectorises them. */
#include <math.h>

#define D 8
#define PARTS 3

/* out[j] = sum over d of x[d] * m[d][j] */
static void products(const float *restrict x, const float *restrict m, long tokens, long from, long to, float *restrict out)
{
    const float x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3], x4 = x[4], x5 = x[5], x6 = x[6], x7 = x[7];
    for (long j = from; j < to; j++)
        out[j] = x0 * m[j] + x1 * m[tokens + j] + x2 * m[2 * tokens + j] + x3 * m[3 * tokens + j] + x4 * m[4 * tokens + j]
               + x5 * m[5 * tokens + j] + x6 * m[6 * tokens + j] + x7 * m[7 * tokens + j];
}

/* result[d] += sum over j of w[j] * m[d][j] */
static void weighted(const float *restrict w, const float *restrict m, long tokens, long from, long to, float *restrict result)
{
    for (int d = 0; d < D; d += 4) {
        const float *restrict m0 = m + d * tokens, *restrict m1 = m0 + tokens, *restrict m2 = m1 + tokens, *restrict m3 = m2 + tokens;
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (long j = from; j < to; j++) {
            s0 += w[j] * m0[j];
            s1 += w[j] * m1[j];
            s2 += w[j] * m2[j];
            s3 += w[j] * m3[j];
        }
        result[d] += s0;
        result[d + 1] += s1;
        result[d + 2] += s2;
        result[d + 3] += s3;
    }
}

/* m[d][j] += w[j] * x[d] */
static void spread(const float *restrict w, const float *restrict x, long tokens, long from, long to, float *restrict m)
{
    for (int d = 0; d < D; d++) {
        float *restrict row = m + d * tokens;
        const float factor = x[d];
        for (long j = from; j < to; j++) row[j] += w[j] * factor;
    }
}

/* rows: batch x head; ranges: (batch, token, 4); q, out: (row, token, 8); keys, values: (row, 8, token); lse: (row, token) */
void forward(const float *q, const float *keys, const float *values, const int *ranges, float scale, long tokens, long heads,
             long first, long last, float *out, float *lse, float *space)
{
    for (long row = first; row < last; row++) {
        const float *k = keys + row * D * tokens, *v = values + row * D * tokens;
        const int *range = ranges + row / heads * tokens * 4;
        for (long i = 0; i < tokens; i++) {
            const long from[PARTS] = {0, range[4 * i + 1], range[4 * i + 3]};
            const long to[PARTS] = {range[4 * i], range[4 * i + 2], i + 1};
            float most = -1e30f, sum = 0, result[D] = {0}, query[D];
            for (int d = 0; d < D; d++) query[d] = q[(row * tokens + i) * D + d] * scale;
            for (int part = 0; part < PARTS; part++) {
                products(query, k, tokens, from[part], to[part], space);
                for (long j = from[part]; j < to[part]; j++) most = fmaxf(most, space[j]);
            }
            for (int part = 0; part < PARTS; part++) {
                for (long j = from[part]; j < to[part]; j++) {
                    space[j] = expf(space[j] - most);
                    sum += space[j];
                }
                weighted(space, v, tokens, from[part], to[part], result);
            }
            for (int d = 0; d < D; d++) out[(row * tokens + i) * D + d] = result[d] / sum;
            lse[row * tokens + i] = most + logf(sum);
        }
    }
}

/* given: gradient of out; dq like q; dkeys, dvalues like keys, zeroed by the caller; space: 2 x tokens */
void backward(const float *q, const float *keys, const float *values, const int *ranges, float scale, long tokens, long heads,
              long first, long last, const float *out, const float *lse, const float *given, float *dq, float *dkeys,
              float *dvalues, float *space)
{
    float *restrict p = space, *restrict ds = space + tokens;
    for (long row = first; row < last; row++) {
        const float *k = keys + row * D * tokens, *v = values + row * D * tokens;
        float *dk = dkeys + row * D * tokens, *dv = dvalues + row * D * tokens;
        const int *range = ranges + row / heads * tokens * 4;
        for (long i = 0; i < tokens; i++) {
            const long at = row * tokens + i, from[PARTS] = {0, range[4 * i + 1], range[4 * i + 3]};
            const long to[PARTS] = {range[4 * i], range[4 * i + 2], i + 1};
            const float *g = given + at * D, total = lse[at];
            float delta = 0, result[D] = {0}, query[D];
            for (int d = 0; d < D; d++) delta += g[d] * out[at * D + d];
            for (int d = 0; d < D; d++) query[d] = q[at * D + d] * scale;
            for (int part = 0; part < PARTS; part++) {
                const long a = from[part], b = to[part];
                products(query, k, tokens, a, b, p);
                products(g, v, tokens, a, b, ds);
                for (long j = a; j < b; j++) {
                    p[j] = expf(p[j] - total);
                    ds[j] = p[j] * (ds[j] - delta);
                }
                weighted(ds, k, tokens, a, b, result);
                spread(ds, query, tokens, a, b, dk);
                spread(p, g, tokens, a, b, dv);
            }
            for (int d = 0; d < D; d++) dq[at * D + d] = result[d] * scale;
        }
    }
}
