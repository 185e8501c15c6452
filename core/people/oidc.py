"""OpenID Connect: the way to a provider and back (authorization code with PKCE), and who comes from there."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from core.data import people
from core.errors import AppError, Forbidden
from core.people import sessions
from core.people.accounts import checked_person
from core.roles import ROLES
from core.settings import Oidc, settings

MINUTES = 10  # from the page of signing in to the provider and back
MOST = 1000  # who are on that way at the same time
TIMEOUT = 10  # seconds
LEEWAY = 60  # seconds that the provider's clock may be off
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
AGAIN = "Sign in once more."


@dataclass(frozen=True)
class Begun:
    address: str  # at the provider
    state: str  # what the browser keeps meanwhile


@dataclass(frozen=True)
class _Way:
    nonce: str
    verifier: str
    there: str  # where to go on to in the end
    until: float


_ways: dict[str, _Way] = {}
_lock = Lock()


def _provider() -> Oidc:
    found = settings().oidc
    if found is None:
        raise AppError("Nobody signs in by OpenID Connect here.", "LOUPE_SIGN_IN names the ways.")
    return found


def _session(*args: Any, **more: Any) -> Any:
    from authlib.integrations.requests_client import OAuth2Session  # 0.5 s and 25 MB, for those alone who sign in this way

    return OAuth2Session(*args, timeout=TIMEOUT, **more)


def _way_to(provider: Oidc, back: str) -> Any:
    return _session(
        provider.client_id,
        provider.client_secret,
        scope="openid profile email",
        redirect_uri=back,
        code_challenge_method="S256",
    )


@lru_cache(maxsize=1)
def _metadata(issuer: str) -> dict[str, Any]:
    """What the provider says of itself; asked once per start of the server."""
    with _session() as web:
        found: dict[str, Any] = _asked(web, f"{issuer}/.well-known/openid-configuration", withhold_token=True)
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        raise AppError("The provider names another issuer than LOUPE_OIDC_ISSUER.", "Whoever runs this server can put that right.")
    return found


def _asked(web: Any, address: str, **more: Any) -> dict[str, Any]:
    try:
        answer = web.get(address, timeout=TIMEOUT, **more)
        answer.raise_for_status()
        found = answer.json()
    except Exception as e:  # of four libraries below: no connection, no answer in time, an error, no JSON
        raise AppError("The provider of your sign-in does not answer.", "Try again in a minute.") from e
    if not isinstance(found, dict):
        raise AppError("The provider of your sign-in gave no usable answer.", "Try again in a minute.")
    return found


def begin(back: str, there: str) -> Begun:
    provider = _provider()
    way = _Way(secrets.token_urlsafe(24), secrets.token_urlsafe(48), there, time.time() + MINUTES * 60)
    with _way_to(provider, back) as web:
        endpoint = _metadata(provider.issuer)["authorization_endpoint"]
        address, state = web.create_authorization_url(endpoint, nonce=way.nonce, code_verifier=way.verifier)
    with _lock:
        for old in [one for one, gone in _ways.items() if gone.until < time.time()]:
            del _ways[old]
        if len(_ways) >= MOST:
            del _ways[next(iter(_ways))]
        _ways[state] = way
    return Begun(address, state)


def finish(state: str, code: str, back: str) -> tuple[people.Account, str]:
    """Who came back with the provider's code, and where to go on to; each way leads back once."""
    with _lock:
        way = _ways.pop(state, None)
    if way is None or way.until < time.time():
        raise Forbidden("This sign-in took too long, or was finished already.", AGAIN)
    from joserfc import jwt
    from joserfc.jwk import KeySet

    provider = _provider()
    metadata = _metadata(provider.issuer)
    with _way_to(provider, back) as web:
        try:
            tokens = web.fetch_token(metadata["token_endpoint"], code=code, code_verifier=way.verifier)
            keys = KeySet.import_key_set(_asked(web, metadata["jwks_uri"], withhold_token=True))  # type: ignore[arg-type]
            claims = dict(jwt.decode(str(tokens["id_token"]), keys, algorithms=ALGORITHMS).claims)
            expected = {"iss": metadata["issuer"], "nonce": way.nonce}
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY,
                exp={"essential": True},
                sub={"essential": True},
                aud={"essential": True, "value": provider.client_id},
                **{name: {"essential": True, "value": value} for name, value in expected.items()},  # type: ignore[arg-type]
            ).validate(claims)
        except AppError:
            raise
        except Exception as e:  # Authlib and joserfc raise what the provider says, requests what the network says
            raise Forbidden("The provider's answer could not be checked.", AGAIN) from e
        if provider.name_claim not in claims and "userinfo_endpoint" in metadata:
            more = _asked(web, metadata["userinfo_endpoint"])
            claims = {**more, **claims} if more.get("sub") == claims["sub"] else claims
    return _account(provider, claims), way.there


def _account(provider: Oidc, claims: dict[str, Any]) -> people.Account:
    name, subject = str(claims.get(provider.name_claim) or ""), f"{claims['iss']} {claims['sub']}"
    if not name:
        raise Forbidden(f"The provider does not say what you are called (no “{provider.name_claim}”).", "Tell whoever runs this server.")
    name = checked_person(name)
    role = _role(claims.get(provider.role_claim)) if provider.role_claim else sessions.usual_role()
    try:
        found = people.known_by(subject, name) or people.add(name, role, "oidc", subject, back=False)
    except AppError as e:
        people.refuse(name, e.message)
        raise
    if provider.role_claim and found.role != role:
        people.set_role(found.name, role, by_claim=True)
        found = people.get(found.name)
    return found


def _role(claim: Any) -> str | None:
    """The highest of the roles in the claim, which is one or a list."""
    held = claim if isinstance(claim, list) else [claim]
    return next((role for role in reversed(ROLES) if role in held), None)
