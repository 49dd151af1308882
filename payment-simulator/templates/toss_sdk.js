// A stand-in for the provider's browser SDK (v2): the one call that shops use, against the simulator that served it.
(() => {
  const origin = new URL(document.currentScript.src).origin;

  async function requestPayment(clientKey, customerKey, request) {
    const form = new URLSearchParams({
      client_key: clientKey,
      method: request.method,
      amount: String(request.amount?.value),
      currency: request.amount?.currency ?? "KRW",
      order_id: request.orderId,
      order_name: request.orderName,
      success_url: request.successUrl,
      fail_url: request.failUrl,
      customer_key: customerKey ?? "",
    });
    const answer = await fetch(`${origin}/toss/sdk/payments`, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: form,
    });
    const body = await answer.json();
    if (!answer.ok) {
      throw Object.assign(new Error(body.message), { code: body.code });
    }
    window.location.assign(body.pay_url);
    // The browser leaves this page: like the real one, the promise stays open.
    return new Promise(() => {});
  }

  const TossPayments = (clientKey) => ({
    payment: ({ customerKey } = {}) => ({
      requestPayment: (request) => requestPayment(clientKey, customerKey, request),
    }),
  });
  TossPayments.ANONYMOUS = "ANONYMOUS";
  window.TossPayments = TossPayments;
})();
