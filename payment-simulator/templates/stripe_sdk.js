// A stand-in for the provider's browser SDK (v3): Elements and confirmPayment, against the simulator that served it.
// The card form itself is the simulator's page; the element on the shop's page only says so.
(() => {
  const origin = new URL(document.currentScript.src).origin;
  const TEXTS = {
    ko: "시험 결제입니다. 다음 화면에서 결제, 거절, 취소를 고릅니다.",
    en: "This is a test payment. You choose to pay, decline or cancel on the next page.",
  };

  function element() {
    const node = document.createElement("p");
    const korean = (document.documentElement.lang || navigator.language).startsWith("ko");
    node.textContent = korean ? TEXTS.ko : TEXTS.en;
    const handlers = { ready: [] };
    const self = {
      mount(target) {
        const place = typeof target === "string" ? document.querySelector(target) : target;
        place.replaceChildren(node);
        for (const ready of handlers.ready) queueMicrotask(ready);
      },
      on(event, handler) {
        (handlers[event] ??= []).push(handler);
        return self;
      },
      unmount: () => node.remove(),
      destroy: () => node.remove(),
    };
    return self;
  }

  const failed = (message) => ({ error: { type: "invalid_request_error", message } });

  async function confirmPayment({ elements, clientSecret, confirmParams } = {}) {
    const secret = clientSecret ?? elements?.clientSecret;
    const intent = secret?.split("_secret_")[0];
    if (!intent || !confirmParams?.return_url) {
      return failed("confirmPayment needs a client secret and confirmParams.return_url.");
    }
    const query = new URLSearchParams({ client_secret: secret, return_url: confirmParams.return_url });
    window.location.assign(`${origin}/stripe/pay/${intent}?${query}`);
    // The browser leaves this page: like the real one, the promise stays open.
    return new Promise(() => {});
  }

  window.Stripe = (publishableKey) => {
    if (!/^pk_/.test(publishableKey ?? "")) {
      throw new Error("Stripe() needs a publishable key, pk_…");
    }
    return {
      elements: ({ clientSecret } = {}) => ({ clientSecret, create: element, submit: async () => ({}) }),
      confirmPayment,
    };
  };
})();
