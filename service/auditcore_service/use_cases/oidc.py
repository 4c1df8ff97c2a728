"""From a token of an OpenID Connect issuer to a principal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError

from auditcore_service.principals import (
    DEFAULT_TENANT,
    OPERATOR_NAME,
    SCOPES,
    TENANT_PATTERN,
    Principal,
    Scope,
)
from auditcore_service.settings import Settings
from auditcore_service.use_cases.issuer_keys import IssuerKeys
from auditcore_service.use_cases.refusals import CredentialsInvalid

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
)
"""Signatures with a public key. With `none` anybody could write a token, and with HMAC (`HS256`) everybody who knows
the public key."""

TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What a token may say that it is, besides nothing; a logout token, for example, is signed by the same keys."""

LEEWAY_S: Final = 30
"""How far the clocks of issuer and service may differ."""

KEY_NAME_PREFIX: Final = "key:"
"""Names of principals that begin like this belong to API keys."""

_LONGEST_NAME: Final = 255


@final
class OidcTokens:
    """Tokens of the issuer in the settings."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        assert settings.oidc_issuer is not None  # noqa: S101 - the caller has looked
        self._settings = settings
        self._keys = IssuerKeys(settings.oidc_issuer)
        # an unknown header must be ignored (RFC 7515, 4.1); one that is marked as critical is still refused
        self._registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.oidc_issuer},
            aud={"essential": True, "value": settings.oidc_audience or ""},
            exp={"essential": True},
        )

    def principal(self, token: str) -> Principal:
        """Who a token speaks for.

        Raises:
            CredentialsInvalid: It is no valid token of the issuer for this service, or names no tenant or no name.
            IssuerUnavailable: The keys of the issuer cannot be fetched.
        """
        claims = self._verified(token)
        for name, wanted in self._settings.oidc_required_claims.items():
            found = claim(claims, name)
            if found != wanted and not (isinstance(found, list) and wanted in found):
                msg = f"the token's claim {name!r} is not {wanted!r}, which this service requires"
                raise CredentialsInvalid(msg)
        return Principal(self._tenant(claims), self._name(claims), self._scopes(claims))

    def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and times are right."""
        try:
            header = jws.extract_compact(token.encode("ascii", "replace")).headers()
            key_id = header.get("kid")
            kind = header.get("typ", "JWT")
            if not isinstance(kind, str) or kind.lower() not in TYPES:
                msg = f"this is a token of type {str(kind)[:40]!r}; send an access token or an ID token"
                raise CredentialsInvalid(msg)
            keys = self._keys.find(key_id if isinstance(key_id, str) else None)
            claims = jwt.decode(token, keys, registry=self._registry).claims
            self._claims.validate(claims)
        except ExpiredTokenError as error:
            msg = "the token has expired; get a new one from the issuer"
            raise CredentialsInvalid(msg) from error
        except BadSignatureError as error:
            msg = "the signature of the token does not fit the keys of the issuer"
            raise CredentialsInvalid(msg) from error
        except (InvalidClaimError, MissingClaimError) as error:
            msg = (
                f"the token does not fit this service ({error.description or error}); the operator can compare its "
                "claims with AUDIT_OIDC_ISSUER and AUDIT_OIDC_AUDIENCE"
            )
            raise CredentialsInvalid(msg) from error
        except (JoseError, ValueError, TypeError, KeyError) as error:
            # joserfc 1.8 raises the last two for headers of wrong types, such as a `crit` that is null
            msg = f"this is no valid token of {self._settings.oidc_issuer}; get one there, or send an API key"
            raise CredentialsInvalid(msg) from error
        return claims

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        name = self._settings.oidc_tenant_claim
        if name is None:
            return DEFAULT_TENANT
        found = claim(claims, name)
        if not isinstance(found, str) or not re.fullmatch(TENANT_PATTERN, found):
            msg = (
                f"the token's claim {name!r} is {str(found)[:80]!r}, which is no name of a tenant: "
                "small letters, digits and hyphens, at most 63"
            )
            raise CredentialsInvalid(msg)
        return found

    def _name(self, claims: Mapping[str, Any]) -> str:
        found = claim(claims, self._settings.oidc_name_claim)
        if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_NAME or not found.isprintable():
            msg = f"the token's claim {self._settings.oidc_name_claim!r} names nobody; it has to be text of one line"
            raise CredentialsInvalid(msg)
        if found == OPERATOR_NAME or found.startswith(KEY_NAME_PREFIX):
            msg = f"the name {found!r} could be taken for that of the operator or of an API key; use another claim"
            raise CredentialsInvalid(msg)
        return found

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        found = claim(claims, self._settings.oidc_scope_claim)
        words = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
        return frozenset(scope for scope in SCOPES if scope in words) | frozenset(self._settings.oidc_granted_scopes)


def claim(claims: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON
    """A claim by its name, or by a path such as `realm_access.roles`; None if there is none.

    A name may have dots itself, such as `https://auditcore.example/tenant`, so the whole name counts first.
    """
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found
