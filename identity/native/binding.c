/*
 * Node-API binding of libsecp256k1 (libsecp256k1/): ECDSA of 32-byte digests, nothing else.
 *
 * Results go into memory that the caller gives, so that no call makes an object. What a stranger may send (wrong signatures, r and s
 * out of range) gives false; a wrong type or length is a mistake in the program and throws. One context for each
 * thread that loads the addon: blinding changes it.
 */
#include <node_api.h>
#include <secp256k1.h>
#include <secp256k1_preallocated.h>
#include <secp256k1_recovery.h>
#include <stdio.h>
#include <stdlib.h>

#define DIGEST_BYTES 32
#define KEY_BYTES 32
#define SIGNATURE_BYTES 64
#define PUBLIC_KEY_BYTES 65
#define MOST_ARGUMENTS 4

/* Throws unless it is a Uint8Array of that length. */
static unsigned char *bytes_of(napi_env env, napi_value value, size_t length, const char *name) {
  bool is_array = false;
  napi_typedarray_type type;
  size_t found = 0;
  void *data = NULL;
  if (napi_is_typedarray(env, value, &is_array) == napi_ok && is_array &&
      napi_get_typedarray_info(env, value, &type, &found, &data, NULL, NULL) == napi_ok &&
      type == napi_uint8_array && found == length) {
    return data;
  }
  char text[96];
  snprintf(text, sizeof text, "Expected %s to be an Uint8Array with length %zu", name, length);
  napi_throw_type_error(env, NULL, text);
  return NULL;
}

/* Missing arguments are undefined, which no check lets pass. */
static secp256k1_context *call(napi_env env, napi_callback_info info, napi_value *arguments) {
  size_t count = MOST_ARGUMENTS;
  void *context = NULL;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok) return NULL;
  if (napi_get_instance_data(env, &context) != napi_ok) return NULL;
  return context;
}

static napi_value boolean(napi_env env, int value) {
  napi_value result = NULL;
  napi_get_boolean(env, value != 0, &result);
  return result;
}

static int write_public_key(const secp256k1_context *context, const secp256k1_pubkey *key, unsigned char *out) {
  size_t length = PUBLIC_KEY_BYTES;
  return secp256k1_ec_pubkey_serialize(context, out, &length, key, SECP256K1_EC_UNCOMPRESSED);
}

/* randomize(seed: 32 bytes): blinds what multiplies with private keys. */
static napi_value randomize(napi_env env, napi_callback_info info) {
  napi_value arguments[MOST_ARGUMENTS];
  secp256k1_context *context = call(env, info, arguments);
  if (context == NULL) return NULL;
  const unsigned char *seed = bytes_of(env, arguments[0], 32, "seed");
  if (seed == NULL) return NULL;
  return boolean(env, secp256k1_context_randomize(context, seed));
}

/* publicKey(privateKey, out: 65 bytes): false for a key out of range. */
static napi_value public_key(napi_env env, napi_callback_info info) {
  napi_value arguments[MOST_ARGUMENTS];
  secp256k1_context *context = call(env, info, arguments);
  if (context == NULL) return NULL;
  const unsigned char *private_key = bytes_of(env, arguments[0], KEY_BYTES, "private key");
  if (private_key == NULL) return NULL;
  unsigned char *out = bytes_of(env, arguments[1], PUBLIC_KEY_BYTES, "public key");
  if (out == NULL) return NULL;
  secp256k1_pubkey key;
  return boolean(env, secp256k1_ec_pubkey_create(context, &key, private_key) && write_public_key(context, &key, out));
}

/* sign(digest, privateKey, out: 64 bytes): the recovery id (0 to 3), or -1 for a key out of range. RFC 6979, low s. */
static napi_value sign(napi_env env, napi_callback_info info) {
  napi_value arguments[MOST_ARGUMENTS];
  secp256k1_context *context = call(env, info, arguments);
  if (context == NULL) return NULL;
  const unsigned char *digest = bytes_of(env, arguments[0], DIGEST_BYTES, "message");
  if (digest == NULL) return NULL;
  const unsigned char *private_key = bytes_of(env, arguments[1], KEY_BYTES, "private key");
  if (private_key == NULL) return NULL;
  unsigned char *out = bytes_of(env, arguments[2], SIGNATURE_BYTES, "signature");
  if (out == NULL) return NULL;
  secp256k1_ecdsa_recoverable_signature signature;
  int recovery = -1;
  if (secp256k1_ecdsa_sign_recoverable(context, &signature, digest, private_key, NULL, NULL)) {
    secp256k1_ecdsa_recoverable_signature_serialize_compact(context, out, &recovery, &signature);
  }
  napi_value result = NULL;
  napi_create_int32(env, recovery, &result);
  return result;
}

/* verify(digest, signature, publicKey): false for a high s too. */
static napi_value verify(napi_env env, napi_callback_info info) {
  napi_value arguments[MOST_ARGUMENTS];
  secp256k1_context *context = call(env, info, arguments);
  if (context == NULL) return NULL;
  const unsigned char *digest = bytes_of(env, arguments[0], DIGEST_BYTES, "message");
  if (digest == NULL) return NULL;
  const unsigned char *compact = bytes_of(env, arguments[1], SIGNATURE_BYTES, "signature");
  if (compact == NULL) return NULL;
  const unsigned char *serialized = bytes_of(env, arguments[2], PUBLIC_KEY_BYTES, "public key");
  if (serialized == NULL) return NULL;
  secp256k1_ecdsa_signature signature;
  secp256k1_pubkey key;
  return boolean(env, secp256k1_ecdsa_signature_parse_compact(context, &signature, compact) &&
                          secp256k1_ec_pubkey_parse(context, &key, serialized, PUBLIC_KEY_BYTES) &&
                          secp256k1_ecdsa_verify(context, &signature, digest, &key));
}

/* recover(digest, signature, recovery: 0 or 1, out: 65 bytes): false when there is no such key. */
static napi_value recover(napi_env env, napi_callback_info info) {
  napi_value arguments[MOST_ARGUMENTS];
  secp256k1_context *context = call(env, info, arguments);
  if (context == NULL) return NULL;
  const unsigned char *digest = bytes_of(env, arguments[0], DIGEST_BYTES, "message");
  if (digest == NULL) return NULL;
  const unsigned char *compact = bytes_of(env, arguments[1], SIGNATURE_BYTES, "signature");
  if (compact == NULL) return NULL;
  int32_t recovery = -1;
  if (napi_get_value_int32(env, arguments[2], &recovery) != napi_ok || recovery < 0 || recovery > 1) {
    napi_throw_type_error(env, NULL, "Expected recovery to be 0 or 1");
    return NULL;
  }
  unsigned char *out = bytes_of(env, arguments[3], PUBLIC_KEY_BYTES, "public key");
  if (out == NULL) return NULL;
  secp256k1_ecdsa_recoverable_signature signature;
  secp256k1_pubkey key;
  return boolean(
      env, secp256k1_ecdsa_recoverable_signature_parse_compact(context, &signature, compact, recovery) &&
               secp256k1_ecdsa_recover(context, &key, &signature, digest) && write_public_key(context, &key, out));
}

static void destroy(node_api_basic_env env, void *context, void *hint) {
  (void)env;
  (void)hint;
  secp256k1_context_preallocated_destroy(context);
  free(context);
}

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"randomize", randomize}, {"publicKey", public_key}, {"sign", sign}, {"verify", verify}, {"recover", recover},
  };
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    napi_value function = NULL;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
      napi_throw_error(env, NULL, "cannot make the functions of libsecp256k1");
      return NULL;
    }
  }
  void *memory = malloc(secp256k1_context_preallocated_size(SECP256K1_CONTEXT_NONE));
  if (memory == NULL) {
    napi_throw_error(env, NULL, "no memory for the context of libsecp256k1");
    return NULL;
  }
  secp256k1_context *context = secp256k1_context_preallocated_create(memory, SECP256K1_CONTEXT_NONE);
  if (napi_set_instance_data(env, context, destroy, NULL) != napi_ok) {
    destroy(env, context, NULL);
    napi_throw_error(env, NULL, "cannot keep the context of libsecp256k1");
    return NULL;
  }
  return exports;
}
