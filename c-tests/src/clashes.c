/* Another library for cryptography, with functions that the archive's crates define under the same names. */

int clashes_calls;

int sha3_keccak4_f1600(void);
int mldsa_ntt(void);
int mldsa_poly_use_hint_32(void);
int clashes_call(void);

int sha3_keccak4_f1600(void)
{
    return ++clashes_calls, 1;
}

int mldsa_ntt(void)
{
    return ++clashes_calls, 1;
}

int mldsa_poly_use_hint_32(void)
{
    return ++clashes_calls, 1;
}

int clashes_call(void)
{
    return sha3_keccak4_f1600() + mldsa_ntt() + mldsa_poly_use_hint_32();
}
