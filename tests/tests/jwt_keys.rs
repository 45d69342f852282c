//! Keys that sign tokens, as operators make them: which do for which method, which are refused and how, and what is recognised by them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rm_config::{Jwt, SignMethod};
use rm_jwt::{Key, TOKEN_BYTES_MAX, TokenError};
use rm_tests::openssl::{ED25519, P256, P384, RSA, openssl, private_key, public_key};
use tempfile::TempDir;

/// Every method, with what openssl needs to make a key for it; nothing where that is a secret.
const METHODS: [(SignMethod, &[&str]); 12] = [
    (SignMethod::Rs256, RSA),
    (SignMethod::Rs384, RSA),
    (SignMethod::Rs512, RSA),
    (SignMethod::Ps256, RSA),
    (SignMethod::Ps384, RSA),
    (SignMethod::Ps512, RSA),
    (SignMethod::Es256, P256),
    (SignMethod::Es384, P384),
    (SignMethod::EdDsa, ED25519),
    (SignMethod::Hs256, &[]),
    (SignMethod::Hs384, &[]),
    (SignMethod::Hs512, &[]),
];

/// The head of a token without a signature, `{"alg":"none","typ":"JWT"}`.
const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

/// The same with something that whoever reads the token must understand: `{"alg":"HS256","crit":["x"],"x":1}`.
const CRITICAL: &str = "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdLCJ4IjoxfQ";

fn folder() -> TempDir {
    TempDir::with_prefix("raft-machine-test-").expect("a temporary folder")
}

fn jwt(method: SignMethod, private: Option<&Path>, public: Option<&Path>) -> Jwt {
    Jwt {
        sign_method: method,
        private_key: private.map(Path::to_owned),
        public_key: public.map(Path::to_owned),
        ttl_seconds: 300,
    }
}

fn load(method: SignMethod, private: Option<&Path>, public: Option<&Path>) -> Key {
    let key = Key::load(&jwt(method, private, public));
    key.unwrap_or_else(|error| panic!("{method}: {error}"))
}

/// Why it is refused.
fn refusal(method: SignMethod, private: Option<&Path>, public: Option<&Path>) -> String {
    match Key::load(&jwt(method, private, public)) {
        Ok(_) => panic!("{method}: {private:?} and {public:?} are no key for it"),
        Err(error) => error.to_string(),
    }
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("the folder can be written");
    path
}

/// The public key of a key of RSA, as nothing but its two numbers.
fn numbers(private: &Path) -> PathBuf {
    let path = private.with_extension("numbers");
    let from = private.to_str().expect("a temporary folder has a text");
    openssl(&["rsa", "-in", from, "-RSAPublicKey_out"], &path);
    path
}

fn token(key: &Key) -> String {
    let token = key.sign("alice", 7, SystemTime::now());
    token.expect("there is a private key")
}

/// A key for a method, in a file of this name.
fn key_file(folder: &TempDir, method: SignMethod, kind: &[&str], name: &str) -> PathBuf {
    match kind {
        [] => {
            let secret = name.repeat(64);
            write(folder, name, &secret[..64])
        }
        kind => private_key(folder.path(), &format!("{method}-{name}"), kind),
    }
}

#[test]
fn by_every_method_a_token_is_recognised_by_its_key_and_by_no_other() {
    let folder = folder();
    for (method, kind) in METHODS {
        let file = key_file(&folder, method, kind, "ours");
        let key = load(method, Some(&file), None);
        let token = token(&key);
        let claims = key.recognise(&token);
        let claims = claims.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!((claims.username.as_str(), claims.revision), ("alice", 7));
        let now = SystemTime::now();
        assert!(claims.are_in_time(now), "{method}");
        assert!(!claims.are_in_time(now + Duration::from_secs(301)));

        let other = key_file(&folder, method, kind, "theirs");
        let other = load(method, Some(&other), None);
        assert_eq!(other.recognise(&token), Err(TokenError::Signature));
        for changed in [token.replace('.', "x."), token[..token.len() - 8].into()] {
            let outcome = key.recognise(&changed);
            assert!(outcome.is_err(), "{method}: {changed} is {outcome:?}");
        }
    }
}

#[test]
fn a_public_key_recognises_what_the_private_one_signed_and_signs_nothing() {
    let folder = folder();
    for (method, kind) in METHODS.into_iter().filter(|(_, kind)| !kind.is_empty()) {
        let private = key_file(&folder, method, kind, "ours");
        let public = public_key(&private);
        let both = load(method, Some(&private), Some(&public));
        let half = load(method, None, Some(&public));
        let claims = half.recognise(&token(&both));
        assert_eq!(claims.expect("it is signed").username, "alice", "{method}");
        let signed = half.sign("alice", 7, SystemTime::now());
        assert_eq!(signed, Err(TokenError::NoPrivateKey), "{method}");
    }
}

#[test]
fn older_forms_of_keys_and_certificates_do() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.to_str().expect("it is a text").to_owned();
    for (method, kind, form) in [
        (SignMethod::Rs256, RSA, "rsa"),
        (SignMethod::Es256, P256, "ec"),
        (SignMethod::Es384, P384, "ec"),
    ] {
        let new = key_file(&folder, method, kind, "new");
        let old = path(&format!("{method}-old"));
        openssl(&["pkey", "-traditional", "-in", &text(&new)], &old);
        let certificate = path(&format!("{method}-certificate"));
        let subject = ["req", "-x509", "-subj", "/CN=tokens", "-key"];
        openssl(&[&subject[..], &[&text(&new)]].concat(), &certificate);
        let label = format!("BEGIN {} PRIVATE KEY", form.to_uppercase());
        let written = std::fs::read_to_string(&old).expect("it was written");
        assert!(written.contains(&label), "{written}");
        let signed = token(&load(method, Some(&old), Some(&certificate)));
        let new = load(method, Some(&new), None);
        new.recognise(&signed).expect("they are the same key");
    }
    // As `openssl ecparam -genkey` writes it: the curve first.
    let curve = path("curve");
    let make = ["ecparam", "-name", "prime256v1", "-genkey"];
    openssl(&make, &curve);
    token(&load(SignMethod::Es256, Some(&curve), None));
    let private = key_file(&folder, SignMethod::Rs512, RSA, "numbers");
    load(SignMethod::Rs512, Some(&private), Some(&numbers(&private)));
}

#[test]
fn a_token_cannot_choose_how_it_is_judged() {
    let folder = folder();
    let private = key_file(&folder, SignMethod::Rs256, RSA, "ours");
    let public = public_key(&private);
    let key = load(SignMethod::Rs256, Some(&private), None);
    let good = token(&key);
    let parts: Vec<&str> = good.split('.').collect();

    // Whoever knows the public key signs by it as if it were a secret.
    let confused = token(&load(SignMethod::Hs256, Some(&public), None));
    assert_eq!(key.recognise(&confused), Err(TokenError::Method));
    let swapped = confused.replacen(confused.split('.').next().unwrap_or_default(), parts[0], 1);
    assert_eq!(key.recognise(&swapped), Err(TokenError::Signature));
    // The same key by another method.
    let pss = token(&load(SignMethod::Ps256, Some(&private), None));
    assert_eq!(key.recognise(&pss), Err(TokenError::Method));

    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    for (token, why) in [
        (format!("{NONE}.{claims}."), TokenError::Method),
        (format!("{NONE}.{claims}.{signature}"), TokenError::Method),
        (format!("{NONE}.{claims}"), TokenError::Malformed),
        (format!("{header}.{claims}."), TokenError::Signature),
        (
            format!("{header}.{header}.{signature}"),
            TokenError::Signature,
        ),
        (format!("{good}="), TokenError::Malformed),
        ("..".into(), TokenError::Malformed),
        ("abc.7".into(), TokenError::Malformed),
        (String::new(), TokenError::Malformed),
        ("a".repeat(TOKEN_BYTES_MAX + 1), TokenError::TooLong),
    ] {
        assert_eq!(key.recognise(&token), Err(why), "{token}");
    }
    let secret = write(&folder, "secret", [7; 64]);
    let secret = load(SignMethod::Hs256, Some(&secret), None);
    for header in [NONE, CRITICAL] {
        let token = format!("{header}.{claims}.{signature}");
        assert_eq!(secret.recognise(&token), Err(TokenError::Method));
    }
}

#[test]
fn a_key_of_no_use_is_refused_with_what_where_and_what_to_do() {
    let folder = folder();
    let rsa = key_file(&folder, SignMethod::Rs256, RSA, "rsa");
    let small = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    let small = private_key(folder.path(), "small", &small);
    let p256 = key_file(&folder, SignMethod::Es256, P256, "p256");
    let p384 = key_file(&folder, SignMethod::Es384, P384, "p384");
    let bitcoins = [
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:secp256k1",
    ];
    let bitcoins = private_key(folder.path(), "bitcoins", &bitcoins);
    let pressed = folder.path().join("pressed");
    let press = ["ec", "-pubout", "-conv_form", "compressed", "-in"];
    openssl(
        &[&press[..], &[p256.to_str().expect("it is a text")]].concat(),
        &pressed,
    );
    let broken = "-----BEGIN RSA PUBLIC KEY-----\nMAA=\n-----END RSA PUBLIC KEY-----\n";
    let broken = write(&folder, "broken", broken);
    let ed = key_file(&folder, SignMethod::EdDsa, ED25519, "ed");
    let locked = folder.path().join("locked");
    let lock = ["pkey", "-aes256", "-passout", "pass:secret", "-in"];
    let from = rsa.to_str().expect("it is a text");
    openssl(&[&lock[..], &[from]].concat(), &locked);
    let short = write(&folder, "short", [7; 31]);
    let empty = write(&folder, "empty", "");
    let large = write(&folder, "large", vec![b'a'; 65_537]);
    let absent = folder.path().join("absent");

    let private = |method, file: &Path| refusal(method, Some(file), None);
    let public = |method, file: &Path| refusal(method, None, Some(file));
    for (refused, file, what) in [
        (
            private(SignMethod::Rs256, &absent),
            &absent,
            "cannot be read",
        ),
        (private(SignMethod::Rs256, &empty), &empty, "is no PEM file"),
        (private(SignMethod::Rs256, &large), &large, "is larger than"),
        (
            private(SignMethod::Rs256, &locked),
            &locked,
            "is locked by a password",
        ),
        (
            private(SignMethod::Rs256, &small),
            &small,
            "RS256 needs an RSA key of 2048 to 4096 bits, as `openssl genpkey",
        ),
        (
            private(SignMethod::Rs256, &p256),
            &p256,
            "RS256 needs an RSA key",
        ),
        (
            private(SignMethod::Es256, &rsa),
            &rsa,
            "ES256 needs an ECDSA key on the curve P-256",
        ),
        (
            private(SignMethod::Es256, &p384),
            &p384,
            "ES256 needs an ECDSA key on the curve P-256",
        ),
        (
            private(SignMethod::Es384, &p256),
            &p256,
            "ES384 needs an ECDSA key on the curve P-384",
        ),
        (
            private(SignMethod::EdDsa, &p256),
            &p256,
            "EdDSA needs an Ed25519 key",
        ),
        (
            private(SignMethod::Hs256, &short),
            &short,
            "holds only 31 bytes: HS256 needs a secret of 32 bytes or more",
        ),
        (
            private(SignMethod::Hs512, &empty),
            &empty,
            "HS512 needs a secret of 64 bytes or more",
        ),
        (
            private(SignMethod::Rs256, &public_key(&rsa)),
            &public_key(&rsa),
            "holds PUBLIC KEY and none of PRIVATE KEY",
        ),
        (
            public(SignMethod::Rs256, &rsa),
            &rsa,
            "holds PRIVATE KEY and none of PUBLIC KEY",
        ),
        (
            public(SignMethod::Rs256, &public_key(&small)),
            &public_key(&small),
            "RS256 needs an RSA key",
        ),
        (
            public(SignMethod::Rs256, &numbers(&small)),
            &numbers(&small),
            "RS256 needs an RSA key",
        ),
        (
            public(SignMethod::Ps256, &broken),
            &broken,
            "PS256 needs an RSA key",
        ),
        (
            public(SignMethod::Ps384, &public_key(&ed)),
            &public_key(&ed),
            "PS384 needs an RSA key",
        ),
        (
            public(SignMethod::Es256, &public_key(&p384)),
            &public_key(&p384),
            "ES256 needs an ECDSA key on the curve P-256",
        ),
        (
            public(SignMethod::Es256, &public_key(&rsa)),
            &public_key(&rsa),
            "ES256 needs an ECDSA key",
        ),
        (
            public(SignMethod::Es256, &public_key(&bitcoins)),
            &public_key(&bitcoins),
            "ES256 needs an ECDSA key on the curve P-256",
        ),
        (
            public(SignMethod::Es256, &pressed),
            &pressed,
            "ES256 needs an ECDSA key on the curve P-256",
        ),
        (
            public(SignMethod::EdDsa, &public_key(&p256)),
            &public_key(&p256),
            "EdDSA needs an Ed25519 key",
        ),
        (
            refusal(
                SignMethod::Es256,
                Some(&p256),
                Some(&public_key(&key_file(
                    &folder,
                    SignMethod::Es256,
                    P256,
                    "other",
                ))),
            ),
            &folder.path().join("ES256-other.pub"),
            "is not that of auth.jwt.private_key",
        ),
    ] {
        let at = format!("{file:?}");
        assert!(refused.starts_with("auth.jwt.p"), "{refused}");
        assert!(refused.contains(&at) && refused.contains(what), "{refused}");
    }
    assert_eq!(
        refusal(SignMethod::Es256, None, None),
        "auth.jwt names no key: give private_key, or public_key"
    );
}
